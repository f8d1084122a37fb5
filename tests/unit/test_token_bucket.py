"""The token bucket: never more than it holds and fills, never less, and the time it names is true."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.middleware.rate_limit import LocalBuckets
from infra.resilience.token_bucket import ByteRate, Rate, RoleRate, charge, take
from infra.settings import RATES, Settings
from workflows.domain.role import Role

LIMITS = st.builds(Rate, rate=st.floats(0.01, 1000), burst=st.integers(1, 500))
PAUSES = st.lists(st.one_of(st.just(0.0), st.floats(0, 30)), max_size=200)


@given(LIMITS, PAUSES)
def test_no_window_admits_more_than_burst_and_rate(limit: Rate, pauses: list[float]) -> None:
    full_at, now, admitted = 0.0, 1000.0, []
    for pause in pauses:
        now += pause
        full_at, wait = take(full_at, now, limit)
        if wait == 0:
            admitted.append(now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            allowed = limit.burst + limit.rate * (admitted[last] - admitted[first])
            assert last - first + 1 <= allowed + 0.01


@given(LIMITS, PAUSES)
def test_a_caller_that_waits_as_asked_is_admitted_and_no_sooner(limit: Rate, pauses: list[float]) -> None:
    full_at, now = 0.0, 1000.0
    for pause in pauses:
        now += pause
        before = full_at
        full_at, wait = take(full_at, now, limit)
        if wait > 0:
            assert full_at == before  # a refusal costs nothing
            assert wait <= 1 / limit.rate + 1e-6
            assert take(full_at, now + wait + 1e-6, limit)[1] == 0
            assert wait < 1e-3 or take(full_at, now + wait / 2, limit)[1] > 0


@given(LIMITS)
def test_a_full_bucket_holds_its_burst(limit: Rate) -> None:
    full_at, waits = 0.0, []
    for _ in range(limit.burst + 1):
        full_at, wait = take(full_at, 1000.0, limit)
        waits.append(wait)
    assert waits[:-1] == [0.0] * limit.burst
    assert waits[-1] == pytest.approx(1 / limit.rate, abs=1e-5)


def test_buckets_have_names_and_old_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Rate(rate=1, burst=2)
    monkeypatch.setattr("api.middleware.rate_limit.time.monotonic", lambda: 50.0)
    buckets = LocalBuckets(most=3)
    assert [buckets.take("a", limit) for _ in range(3)] == [0, 0, 1]
    assert [buckets.take(name, limit) for name in ("b", "c", "a")] == [0, 0, 1]
    assert [buckets.take(name, limit) for name in ("d", "e", "f", "a")] == [0, 0, 0, 0]


def test_the_rates_of_roles() -> None:
    usual = Settings()
    assert usual.rate_of(Role.USER) == RATES[Role.USER]
    assert usual.rate_of(Role.NODE) == RATES[Role.NODE]
    assert usual.rate_of(Role.ADMIN) is usual.rate_of(Role.OPERATOR) is None
    chosen = Settings(rate_limits={"user": {"rate": 0, "burst": 1}, "operator": {"rate": 2, "burst": 3}})
    assert chosen.rate_of(Role.USER) is None
    assert chosen.rate_of(Role.OPERATOR) == RoleRate(rate=2, burst=3)
    assert chosen.rate_of(Role.NODE) == RATES[Role.NODE]
    for wrong in ({"boss": {"rate": 1, "burst": 1}}, {"user": {"rate": -1, "burst": 1}}, {"user": {"rate": 1}}):
        with pytest.raises(ValidationError):
            Settings(rate_limits=wrong)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 10**6)), max_size=100), st.integers(1, 10**6))
def test_a_debt_is_paid_at_the_rate(charges: list[tuple[float, int]], burst: int) -> None:
    limit, full_at, now, spent = ByteRate(1000, burst), 0.0, 1000.0, 0
    for pause, count in charges:
        now += pause
        full_at, wait = charge(full_at, now, limit, count)
        spent += count
        assert wait >= (spent - burst) / limit.rate - (now - 1000.0) - 1e-3
        assert charge(full_at, now + wait, limit, 0)[1] == pytest.approx(0, abs=1e-6)


def test_bytes_have_defaults_by_role() -> None:
    usual = Settings()
    assert usual.bytes_of(Role.USER) == ByteRate(4 * 2**20, 32 * 2**20)
    assert usual.bytes_of(Role.NODE) == ByteRate(16 * 2**20, 128 * 2**20)
    assert usual.bytes_of(Role.ADMIN) is None
    given = Settings(
        rate_limits={
            "user": {"rate": 1, "burst": 1, "bytes": 70_000},
            "node": {"rate": 0, "burst": 1, "bytes": 0},
            "operator": {"rate": 0, "burst": 1, "bytes": 65_536.5},
            "admin": {"rate": 1, "burst": 1},
        }
    )
    assert given.bytes_of(Role.USER) == ByteRate(70_000, 32 * 2**20)
    assert given.bytes_of(Role.NODE) is None
    assert given.bytes_of(Role.OPERATOR) == ByteRate(65_536.5, 65_537)
    assert given.bytes_of(Role.ADMIN) is None

"""How a run of the retention goes through what it forgets."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from activities.retention import REST, RUN_S, RetentionSteps
from infra.db.session import DatabaseSilent
from infra.settings import Settings
from infra.temporal.schedules import RETENTION_INTERVAL_S

LEFT = {"tasks": 5, "payloads": 0, "operations": 0, "events": 1, "deliveries": 3, "nodes": 2, "alerts": 1, "audit": 9}


class Rows:
    """Rows of each kind, of which a call forgets a page; in place of the database, which it is handed to itself."""

    def __init__(self) -> None:
        self.left = dict(LEFT)
        self.periods: dict[str, timedelta] = {}
        self.fails: dict[str, Exception] = {}
        self.most = 10**6
        self.pages: list[int] = []

    async def run(self, work: Any) -> Any:
        return await work(self)


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, as multiples of a page's duration of one second."""
    slept: list[float] = []
    clock = iter(range(1000))

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("activities.retention.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


def steps(rows: Rows, page: int = 2, **options: Any) -> RetentionSteps:
    found = RetentionSteps(rows, Settings(), page=page, **options)  # type: ignore[arg-type]

    def of(kind: str) -> Any:
        async def forget(_: Any, period: timedelta, page: int) -> int:
            if kind in rows.fails:
                raise rows.fails[kind]
            if page > rows.most:
                raise psycopg.errors.QueryCanceled
            rows.pages.append(page)
            count = min(page, rows.left[kind])
            rows.left[kind] -= count
            rows.periods[kind] = period
            return count

        return forget

    found._kinds = {kind: (of(kind), days) for kind, (_, days) in found._kinds.items()}
    return found


async def test_all_that_is_old_goes_by_its_own_period(rests: list[float]) -> None:
    rows = Rows()
    assert await steps(rows).forget_all() == {kind: count for kind, count in LEFT.items() if count}
    assert not any(rows.left.values())
    days = {kind: period.days for kind, period in rows.periods.items()}
    assert days == {
        "tasks": 30,
        "payloads": 7,
        "operations": 30,
        "events": 7,
        "deliveries": 7,
        "nodes": 30,
        "alerts": 90,
        "audit": 365,
    }
    assert set(rests) == {REST}


async def test_a_run_leaves_the_rest_to_the_next_one_and_starves_no_kind(rests: list[float]) -> None:
    rows = Rows()
    forgotten = await steps(rows, run_s=7.0).forget_all()
    assert rows.left["tasks"]
    assert rows.left["audit"]
    assert set(forgotten) == {"tasks", "events", "deliveries", "nodes", "alerts", "audit"}
    assert rests


def test_a_run_ends_shortly_before_the_next_one_begins() -> None:
    assert 0 < -RUN_S % RETENTION_INTERVAL_S <= RETENTION_INTERVAL_S / 10


async def test_a_kind_that_fails_stops_no_other_one(rests: list[float]) -> None:
    rows = Rows()
    rows.fails = {"tasks": ValueError("broken"), "events": DatabaseSilent("no answer")}
    with pytest.raises(ValueError, match="broken"):
        await steps(rows).forget_all()
    assert {kind for kind, count in rows.left.items() if count} == {"tasks", "events"}


async def test_a_page_that_takes_too_long_is_halved(rests: list[float]) -> None:
    rows = Rows()
    rows.most = 2
    assert sum((await steps(rows, page=8).forget_all()).values()) == sum(LEFT.values())
    assert set(rows.pages) == {2}

"""Which dispatches ask their node to hold its answer (ADR 0031)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock, MagicMock

import pytest
from temporalio.testing import ActivityEnvironment

from activities import short_work
from activities.short_work import WAIT_S, ShortWork
from infra.db.attempts.dispatch_request import DispatchRequest

ASKED = {"Prefer": f"wait={WAIT_S}"}


def a_request(timeout_ms: int = 60_000) -> DispatchRequest:
    return DispatchRequest(
        "t", 1, "g", "token", "127.0.0.1", 9000, None, 2, "app", "user", None, timeout_ms, "{}", None
    )


def dispatches(usual_s: float = 0.1) -> ShortWork:
    return ShortWork(MagicMock(usual_s=AsyncMock(return_value=usual_s)))


async def preference(
    work: ShortWork, *, is_local: bool = True, asked_for_s_ago: float = 0.0, timeout_ms: int = 60_000
) -> dict[str, str]:
    async def step() -> dict[str, str]:
        async with work.preference(a_request(timeout_ms)) as headers:
            return headers

    environment = ActivityEnvironment()
    asked_for = datetime.now(UTC) - timedelta(seconds=asked_for_s_ago)
    environment.info = replace(environment.info, is_local=is_local, scheduled_time=asked_for)
    return await environment.run(step)


async def test_short_work_is_waited_for() -> None:
    assert await preference(dispatches()) == ASKED
    assert await preference(dispatches(usual_s=WAIT_S)) == ASKED


async def test_long_work_is_not() -> None:
    assert await preference(dispatches(usual_s=WAIT_S + 0.1)) == {}


async def test_a_later_try_does_not_wait() -> None:
    assert await preference(dispatches(), is_local=False) == {}


async def test_the_wait_fits_into_the_try() -> None:
    assert await preference(dispatches(), asked_for_s_ago=0.4) == ASKED
    assert await preference(dispatches(), asked_for_s_ago=0.6) == {}


async def test_the_wait_takes_half_of_the_timeout_at_most() -> None:
    assert await preference(dispatches(), timeout_ms=2000 * WAIT_S) == ASKED
    assert await preference(dispatches(), timeout_ms=2000 * WAIT_S - 1) == {}


async def test_a_bounded_number_waits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_work, "AT_ONCE", 1)
    work = dispatches()

    async def while_another_waits() -> dict[str, str]:
        async with work.preference(a_request()), work.preference(a_request()) as headers:
            return headers

    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=True, scheduled_time=datetime.now(UTC))
    assert await environment.run(while_another_waits) == {}
    assert await preference(work) == ASKED

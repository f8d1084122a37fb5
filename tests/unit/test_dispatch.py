"""The worker's log of a dispatch, and which dispatches ask their node to hold its answer (ADR 0031)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock, MagicMock

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities import dispatch
from activities.dispatch import WAIT_S, ShortWork, _unclear
from infra.db.attempts.dispatch_order import Order

ASKED = {"Prefer": f"wait={WAIT_S}"}


def test_an_unclear_answer_is_one_line_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Temporal's worker logs the traceback of a failure, unless it is benign."""
    environment = ActivityEnvironment()
    environment.info = replace(environment.default_info(), scheduled_time=datetime.now(UTC))
    with pytest.raises(ApplicationError, match="no answer: refused") as raised:
        environment.run(_unclear, "no answer: refused")
    assert (raised.value.type, raised.value.category) == ("DispatchAmbiguous", ApplicationErrorCategory.BENIGN)
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith("the node's answer leaves the attempt open: no answer: refused")
    assert len(record.getMessage().splitlines()) == 1


def order(timeout_ms: int = 60_000) -> Order:
    return Order("t", 1, "g", "token", "127.0.0.1", 9000, None, 2, "app", "user", None, timeout_ms, "{}", None)


def dispatches(usual_s: float = 0.1) -> ShortWork:
    return ShortWork(MagicMock(usual_s=AsyncMock(return_value=usual_s)))


async def preference(
    work: ShortWork, *, is_local: bool = True, asked_for_s_ago: float = 0.0, timeout_ms: int = 60_000
) -> dict[str, str]:
    async def step() -> dict[str, str]:
        async with work.preference(order(timeout_ms)) as headers:
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
    monkeypatch.setattr(dispatch, "AT_ONCE", 1)
    work = dispatches()

    async def while_another_waits() -> dict[str, str]:
        async with work.preference(order()), work.preference(order()) as headers:
            return headers

    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=True, scheduled_time=datetime.now(UTC))
    assert await environment.run(while_another_waits) == {}
    assert await preference(work) == ASKED

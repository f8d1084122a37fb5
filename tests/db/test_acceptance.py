"""What a dispatch says of an attempt that its node has accepted, and who waits for its end (ADR 0016)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities import acceptance
from activities.acceptance import Acceptance
from infra.data_dir import embedded
from infra.db import attempts, closings, dispatching
from infra.db.closings import Closings
from infra.db.dispatching import Order
from infra.db.engine import Database
from infra.db.notifications import ClosedAttempt
from infra.forecast import Forecast
from tests.conftest import eventually
from tests.db.listening import HELD, held, listening, settle
from tests.db.sessions import Sessions
from workers.stack.stack import Stack
from workflows.messages import Delivery, Dispatched
from workflows.policies import WATCH

EARLIER = "an earlier try"


@dataclass
class Dispatch:
    """The end of a dispatch, as the worker would run it."""

    database: Database
    heard: Closings
    usual_s: float = 0.1
    is_local: bool = True
    asked_for_s_ago: float = 0.0

    @property
    def acceptance(self) -> Acceptance:
        forecast = Forecast(self.database)

        async def usual_s(_: int) -> float:
            return self.usual_s

        forecast.usual_s = usual_s  # type: ignore[method-assign]
        return Acceptance(self.database, forecast, self.heard)

    async def order(self) -> Order:
        found = await self.database.single(lambda c: dispatching.order(c, *HELD))
        assert found is not None
        return found

    async def ends(self) -> Dispatched:
        environment, order = ActivityEnvironment(), await self.order()
        asked_for = datetime.now(UTC) - timedelta(seconds=self.asked_for_s_ago)
        environment.info = replace(environment.info, is_local=self.is_local, scheduled_time=asked_for)
        return await environment.run(self.acceptance.note, order)

    async def watched_by(self) -> str | None:
        return (await self.order()).watched_by


@pytest.fixture
async def dispatch(engine: Sessions, stack: Stack) -> AsyncIterator[Dispatch]:
    async with listening(embedded.postgres_url(stack.data_dir, "of_the_tests")) as heard, held(engine) as database:
        yield Dispatch(database, heard)


async def test_short_work_is_waited_for(dispatch: Dispatch) -> None:
    async def waits() -> bool:
        return await dispatch.watched_by() == dispatch.heard.channel

    ending = asyncio.create_task(dispatch.ends())
    await eventually(waits)
    assert not ending.done()
    assert (await settle(dispatch.database)).closed == []
    assert await ending == Dispatched(Delivery.CLOSED)


async def test_what_takes_longer_runs_on(dispatch: Dispatch) -> None:
    dispatch.asked_for_s_ago = WATCH.total_seconds() - 0.3
    ended = await dispatch.ends()
    assert ended.delivery is Delivery.RUNNING
    assert 200 <= ended.watched_ms <= 1000
    assert await dispatch.watched_by() is None


@pytest.mark.parametrize("why", ["long work", "a later try", "too late", "too many", "deaf"])
async def test_else_nobody_waits(dispatch: Dispatch, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "long work":
        dispatch.usual_s = WATCH.total_seconds() + 0.1
    elif why == "a later try":
        dispatch.is_local = False
    elif why == "too late":
        dispatch.asked_for_s_ago = WATCH.total_seconds()
    elif why == "too many":
        monkeypatch.setattr(acceptance, "AT_ONCE", 0)
    else:
        dispatch.heard.hears = False
    assert await dispatch.ends() == Dispatched(Delivery.RUNNING)
    assert await dispatch.watched_by() is None


@pytest.mark.parametrize("usual_s", [0.1, 10.0])
async def test_what_has_closed_before_is_to_be_collected(dispatch: Dispatch, usual_s: float) -> None:
    order = await dispatch.order()
    await settle(dispatch.database)
    dispatch.usual_s = usual_s
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=True, scheduled_time=datetime.now(UTC))
    assert await environment.run(dispatch.acceptance.note, order) == Dispatched(Delivery.CLOSED)


async def test_an_earlier_try_that_waited_is_forgotten(dispatch: Dispatch) -> None:
    """Else its end would be told to nobody."""
    await dispatch.database.single(lambda c: attempts.accept_dispatched(c, *HELD, EARLIER))
    assert await dispatch.acceptance.forget_earlier(await dispatch.order())
    assert (await settle(dispatch.database)).closed == [ClosedAttempt(*HELD)]


async def test_an_earlier_try_may_have_missed_the_end(dispatch: Dispatch) -> None:
    await dispatch.database.single(lambda c: attempts.accept_dispatched(c, *HELD, EARLIER))
    order = await dispatch.order()
    assert (await settle(dispatch.database)).closed == []
    assert not await dispatch.acceptance.forget_earlier(order)
    assert not await dispatch.database.single(lambda c: closings.give_up(c, *HELD, EARLIER))

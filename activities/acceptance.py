"""The end of a dispatch that went well: the node's acceptance is noted, and short work is waited for (ADR 0016)."""

from __future__ import annotations

import asyncio
import time

from temporalio import activity

from infra.db import attempts, closings
from infra.db.closings import Closings
from infra.db.dispatching import Order
from infra.db.engine import Database
from infra.delivery import HEAD_START_S
from infra.forecast import Forecast
from workflows.messages import Delivery, Dispatched
from workflows.policies import WATCH

ACTOR = "workflow"
AT_ONCE = 50
"""So many dispatches of a process wait at the same time: each holds a workflow task, and a worker has a hundred."""
LEAST_S = 0.05


class Acceptance:
    """Waits where most work of the type is over by then: that saves a signal, a timer and a workflow task."""

    def __init__(self, database: Database, forecast: Forecast, heard: Closings) -> None:
        self._database = database
        self._forecast = forecast
        self._heard = heard

    async def note(self, order: Order, began: float) -> Dispatched:
        """The node runs it. `began`: when the dispatch did, by the monotonic clock."""
        wait_s = await self._wait_s(order, began)
        if wait_s < LEAST_S:
            await self._accept(order, None)
            return Dispatched(Delivery.RUNNING)
        with self._heard.expect(order.task_id, order.attempt) as closed:
            if not await self._accept(order, self._heard.channel):
                return Dispatched(Delivery.RUNNING)  # it was closed before anybody waited: its workflow is signalled
            return await self._watched(order, closed, wait_s)

    async def _wait_s(self, order: Order, began: float) -> float:
        """How long to wait; not at all for work that usually takes longer, nor for more than half of its timeout."""
        if not activity.info().is_local or not self._heard.hears or self._heard.expected >= AT_ONCE:
            return 0.0
        longest_s = WATCH.total_seconds()
        if await self._forecast.usual_s(order.task_type) > longest_s:
            return 0.0
        return min(began + longest_s - time.monotonic(), order.timeout_ms / 2000)

    async def _accept(self, order: Order, watched_by: str | None) -> bool:
        return await self._database.single(
            lambda c: attempts.accept(
                c, order.task_id, order.attempt, actor=ACTOR, dispatched=True, watched_by=watched_by
            )
        )

    async def _watched(self, order: Order, closed: asyncio.Event, wait_s: float) -> Dispatched:
        began = time.monotonic()
        try:
            await asyncio.wait_for(closed.wait(), wait_s)
        except TimeoutError:
            if await self._database.single(lambda c: closings.give_up(c, order.task_id, order.attempt)):
                return Dispatched(Delivery.RUNNING, watched_ms=int(1000 * (time.monotonic() - began)))
        else:
            await asyncio.sleep(HEAD_START_S)  # its slot's next task is dispatched meanwhile
        return Dispatched(Delivery.CLOSED)

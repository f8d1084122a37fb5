"""The end of a dispatch that went well: the node's acceptance is noted, and short work is waited for (ADR 0016)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from temporalio import activity

from infra.db import attempts, closings
from infra.db.closings import Closings
from infra.db.dispatching import Order
from infra.db.engine import Database
from infra.forecast import Forecast
from workflows.messages import Delivery, Dispatched
from workflows.policies import WATCH

AT_ONCE = 50
"""Dispatches of a process that wait at the same time: each holds a workflow task, of which a worker has a hundred."""
LEAST_S = 0.05
HEAD_START_S = 0.015
"""Seconds for which the end of short work waits behind the grant of its slot, about the time that a dispatch takes."""


class Acceptance:
    """Waits where most work of the type is over by then: that saves a signal, a timer and a workflow task."""

    def __init__(self, database: Database, forecast: Forecast, heard: Closings) -> None:
        self._database = database
        self._forecast = forecast
        self._heard = heard

    async def note(self, order: Order) -> Dispatched:
        """The node runs it. An attempt that has closed before that was noted is to be collected."""
        if not await self._is_short(order) or self._heard.expected >= AT_ONCE or not self._heard.hears:
            return Dispatched(Delivery.RUNNING if await self._accept(order, None) else Delivery.CLOSED)
        with self._heard.expect(order.task_id, order.attempt) as closed:
            if not await self._accept(order, self._heard.channel):
                return Dispatched(Delivery.CLOSED)
            return await self._watched(order, closed)

    async def forget_earlier(self, order: Order) -> bool:
        """An earlier try that waited is lost: nobody waits any more. False: the attempt has closed meanwhile."""
        earlier = order.watched_by
        if earlier is None:
            return True
        return await self._database.single(lambda c: closings.give_up(c, order.task_id, order.attempt, earlier))

    async def _is_short(self, order: Order) -> bool:
        """Only a first try waits, and not for work that usually takes longer."""
        if not activity.info().is_local or _left_s() < LEAST_S:
            return False
        return await self._forecast.usual_s(order.task_type) <= WATCH.total_seconds()

    async def _accept(self, order: Order, watched_by: str | None) -> bool:
        return await self._database.single(
            lambda c: attempts.accept_dispatched(c, order.task_id, order.attempt, watched_by)
        )

    async def _watched(self, order: Order, closed: asyncio.Event) -> Dispatched:
        """Wait for its end, at most for half of its timeout."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await asyncio.wait_for(closed.wait(), min(_left_s(), order.timeout_ms / 2000))
        except TimeoutError:
            key = (order.task_id, order.attempt, self._heard.channel)
            if await self._database.single(lambda c: closings.give_up(c, *key)):
                return Dispatched(Delivery.RUNNING, watched_ms=int(1000 * (loop.time() - began)))
        else:
            await asyncio.sleep(HEAD_START_S)  # its slot's next task is dispatched meanwhile
        return Dispatched(Delivery.CLOSED)


def _left_s() -> float:
    """How long this try may still wait: it is bounded from the moment in which it was asked for."""
    return (activity.info().scheduled_time + WATCH - datetime.now(UTC)).total_seconds()

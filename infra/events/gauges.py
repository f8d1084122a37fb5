"""Places, progress and attempts of the tasks that are followed: read together, at most once a second."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from functools import partial
from typing import Any, Self

from infra.db.queue import position
from infra.db.session import Database, is_unavailable
from infra.db.slots import progress_estimate
from infra.db.slots.capacity import Capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.forecast import Forecast
from infra.db.slots.wait_estimate import expected_wait_s
from infra.db.tasks import queries as task_queries
from infra.db.tasks.queries import Progress
from infra.events.hub import Hub, Subscription

log = logging.getLogger(__name__)

EVERY_S = 1.0
NEVER = (-1, -1)
"""A value of `_turns` that equals no position of the hub, so that the next turn always reads."""
FIRST = 1000
"""Tasks of a queue whose place is shown; further back a place says little."""


class Watch:
    """A followed task; `news` are what has changed since the stream took it: `attempt`, `place`, `progress`."""

    def __init__(self, gauges: Gauges, task_id: str, subscription: Subscription) -> None:
        self.task_id = task_id
        self._gauges = gauges
        self._subscription = subscription
        self._shown: dict[str, Any] = {}
        self.news: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._gauges.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._gauges.remove(self)

    def show(self, kind: str, value: dict[str, Any], *by: str) -> None:
        """Note a value; it is news if one of its members `by` has changed."""
        if self._shown.get(kind) != (key := [value[one] for one in by]):
            self._shown[kind] = key
            self.news[kind] = value
            self._subscription.wake()

    def take(self) -> dict[str, Any]:
        """The news, once."""
        news, self.news = self.news, {}
        return news


class Gauges:
    """Reads while there are watches, and only if something has happened, or a task runs.

    It reads twice after each event, because the capacity may be from before it.
    """

    def __init__(self, database: Database, forecast: Forecast, hub: Hub) -> None:
        self._database = database
        self._forecast = forecast
        self._hub = hub
        self._watches: dict[Watch, None] = {}
        self._reader: asyncio.Task[None] | None = None
        self._turns = NEVER

    def watch(self, task_id: str, subscription: Subscription) -> Watch:
        """A watch of a task, to be entered."""
        return Watch(self, task_id, subscription)

    def add(self, one: Watch) -> None:
        """Begin to read for it."""
        self._watches[one] = None
        self._turns = NEVER
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())

    def remove(self, one: Watch) -> None:
        """Read nothing more for it."""
        self._watches.pop(one, None)

    async def _read(self) -> None:
        while self._watches:
            try:
                await self._turn()
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("the progress of followed tasks could not be read")
            await asyncio.sleep(EVERY_S)

    async def _turn(self) -> None:
        seen = self._hub.seen
        if self._turns == (seen, seen):
            return
        watches: dict[str, list[Watch]] = defaultdict(list)
        for one in self._watches:
            watches[one.task_id].append(one)
        rows = await self._database.single(partial(task_queries.progress_of_all, task_ids=sorted(watches)))
        self._turns = NEVER if any(row.status == "PROCESSING" for row in rows) else (self._turns[1], seen)
        waiting: dict[tuple[int, ...], list[tuple[Progress, Capacity]]] = defaultdict(list)
        for row in rows:
            capacity = await self._forecast.of(Wanted.of(row))
            if row.waiting_since is not None:
                waiting[tuple(capacity.pool)].append((row, capacity))
            for one in watches[row.task_id]:
                _show_attempt(one, row, capacity)
        for pool, those in waiting.items():
            ids = [row.task_id for row, _ in those]
            found = await self._database.single(partial(position.first, pool=list(pool), task_ids=ids, limit=FIRST))
            for row, capacity in those:
                for one in watches[row.task_id] if row.task_id in found else ():
                    _show_place(one, found[row.task_id], capacity)


def _show_attempt(one: Watch, row: Progress, capacity: Capacity) -> None:
    if row.attempt is not None and row.gpu_id is not None:
        one.show("attempt", {"attempt": row.attempt, "gpuId": row.gpu_id}, "attempt")
    if row.status == "PROCESSING":
        percent, remaining_s = progress_estimate.of(row, capacity, ahead=0)
        one.show("progress", {"progress": percent, "estimatedRemainingTime": remaining_s}, "progress")


def _show_place(one: Watch, ahead: int, capacity: Capacity) -> None:
    value = {
        "queuePosition": ahead + 1,
        "estimatedWaitTime": expected_wait_s(ahead, capacity),
        "reason": capacity.nodes.reason(),
    }
    one.show("place", value, "queuePosition", "reason")

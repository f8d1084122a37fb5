"""Capacity by task type and class, and places in long queues. Each process reads them at most once in a while."""

from __future__ import annotations

import asyncio
import time

from infra.db import capacity, queue
from infra.db.capacity import Capacity
from infra.db.engine import Database
from infra.db.queue import Milestones, Place
from workflows.domain.queueing import USUAL_DURATION_S

FRESH_S = 0.5
COUNTED = 500
"""Places up to here are counted exactly. Further back the count starts at a milestone."""
MILESTONE_EVERY = 200
MILESTONES_FRESH_S = 1.0
"""Seconds for which the milestones are reused."""
USUAL_FRESH_S = 2.0
"""Seconds for which the usual duration of a type is reused."""
LONG_S = 5.0
"""Seconds for which a queue counts as long after a new task found it so."""


class Forecast:
    """Shares one answer for each type and class for a moment, so that its cost does not grow with the calls."""

    def __init__(self, database: Database, *, strict_vip: bool) -> None:
        self._database = database
        self._strict_vip = strict_vip
        self._known: dict[tuple[int, bool], tuple[float, Capacity]] = {}
        self._milestones: dict[int, tuple[float, Milestones]] = {}
        self._usual: dict[int, tuple[float, float]] = {}
        self._long_until: dict[int, float] = {}
        self._one_at_a_time = asyncio.Lock()

    async def of(self, task_type: int, *, vip: bool) -> Capacity:
        """The capacity for tasks of a type and class, at most half a second old."""
        now, wanted = time.monotonic(), (task_type, vip or not self._strict_vip)
        until, known = self._known.get(wanted, (0.0, None))
        if known is not None and now < until:
            return known
        found = await self._database.run(lambda c: capacity.read(c, task_type, vip_nodes=wanted[1]))
        self._known = {key: entry for key, entry in self._known.items() if entry[0] > now}
        self._known[wanted] = (now + FRESH_S, found)
        return found

    async def ahead(self, place: Place, pool: list[int]) -> int:
        """The number of tasks of these types that wait before a place."""
        count = await self._database.run(lambda c: queue.ahead(c, place, pool, limit=COUNTED))
        if count < COUNTED:
            return count
        async with self._one_at_a_time:
            before = {task_type: (await self._milestones_of(task_type)).before(place) for task_type in pool}
        marks = {task_type: mark for task_type, (_, mark) in before.items()}
        behind = await self._database.run(lambda c: queue.between(c, marks, place))
        return sum(count for count, _ in before.values()) + behind

    async def usual_s(self, task_type: int) -> float:
        """The usual run time of the type in seconds: the median of its last tasks."""
        now = time.monotonic()
        until, known = self._usual.get(task_type, (0.0, USUAL_DURATION_S))
        if now < until:
            return known
        found = await self._database.single(lambda c: capacity.usual_durations(c, [task_type]))
        self._usual = {key: entry for key, entry in self._usual.items() if entry[0] > now}
        if task_type in found:  # else none has ended yet: the first end tells
            self._usual[task_type] = (now + USUAL_FRESH_S, found[task_type])
        return found.get(task_type, USUAL_DURATION_S)

    def found_long(self, pool: list[int]) -> None:
        """Note that a new task found too many tasks before it to count."""
        self._long_until.update(dict.fromkeys(pool, time.monotonic() + LONG_S))

    async def milestones(self, pool: list[int]) -> dict[int, Milestones] | None:
        """The milestones of these types if one of their queues was found to be long, else None."""
        now = time.monotonic()
        self._long_until = {task_type: until for task_type, until in self._long_until.items() if until > now}
        if self._long_until.keys().isdisjoint(pool):
            return None
        async with self._one_at_a_time:
            return {task_type: await self._milestones_of(task_type) for task_type in pool}

    async def _milestones_of(self, task_type: int) -> Milestones:
        now = time.monotonic()
        until, known = self._milestones.get(task_type, (0.0, None))
        if known is not None and now < until:
            return known
        found = await self._database.run(lambda c: queue.milestones(c, task_type, every=MILESTONE_EVERY))
        self._milestones = {key: entry for key, entry in self._milestones.items() if entry[0] > now}
        self._milestones[task_type] = (now + MILESTONES_FRESH_S, found)
        return found

    def forget(self) -> None:
        """Forget the cached capacity: this process has changed the fleet itself."""
        self._known.clear()

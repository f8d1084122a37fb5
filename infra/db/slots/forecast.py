"""Capacity by task type and class, and places in long queues, cached by each process for `FRESH_S`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from cachetools import TTLCache

from infra.db.queue import position
from infra.db.queue.order import QueuePlace
from infra.db.queue.position import Milestones
from infra.db.session import Database
from infra.db.slots import capacity, progress_estimate
from infra.db.slots.capacity import Capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.outlook import Outlook
from infra.db.slots.wait_estimate import stored_wait
from infra.db.tasks import queries
from infra.db.tasks.queries import Progress, Task
from infra.resilience.single_flight import SingleFlight
from workflows.domain.task import USUAL_DURATION_S, TaskStatus

T = TypeVar("T", bound=Task)
K = TypeVar("K")
A = TypeVar("A")

FRESH_S = 0.5
MILESTONE_EVERY = 200
MILESTONES_FRESH_S = 1.0
"""Seconds for which the milestones are reused."""
USUAL_FRESH_S = 2.0
"""Seconds for which the usual duration of a type is reused."""
LONG_S = 5.0
"""How long a queue is treated as long after a new task found it long, in seconds."""
MOST = 10_000
"""Types and classes that are remembered."""


class _Shared(Generic[K, A]):
    """Answers, each reused for `fresh_s` seconds. Callers that miss one at the same time share a read."""

    def __init__(self, fresh_s: float) -> None:
        self._known: TTLCache[K, A] = TTLCache(MOST, fresh_s)
        self._reads: SingleFlight[K, A] = SingleFlight()

    async def get(self, key: K, read: Callable[[], Coroutine[Any, Any, A]]) -> A:
        """The answer for a key. None is not cached: the next caller reads again. Raises what `read` raises."""
        known = self._known.get(key)
        return await self._reads.run(key, partial(self._read, key, read)) if known is None else known

    async def _read(self, key: K, read: Callable[[], Coroutine[Any, Any, A]]) -> A:
        found = await read()
        if found is not None:
            self._known[key] = found
        return found


class Forecast:
    """Shares one answer for each type and class for a moment, so that its cost does not grow with the calls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._capacity: _Shared[Wanted, Capacity] = _Shared(FRESH_S)
        self._milestones: _Shared[int, Milestones] = _Shared(MILESTONES_FRESH_S)
        self._usual: _Shared[int, float | None] = _Shared(USUAL_FRESH_S)
        self._long: TTLCache[int, bool] = TTLCache(MOST, LONG_S)

    async def of(self, wanted: Wanted) -> Capacity:
        """The capacity for such tasks, at most half a second old. All that may run on VIP nodes share one."""
        key = replace(wanted, vip=self._database.policy.on_vip_nodes(vip=wanted.vip))
        return await self._capacity.get(key, lambda: self._database.run(partial(capacity.read, wanted=key)))

    async def of_task(self, row: Progress) -> tuple[Capacity, int]:
        """The capacity as a task sees it, and the number of tasks before it: 0 if it has a slot or has ended."""
        seen = await self.of(Wanted.of(row))
        is_ahead = row.status == TaskStatus.QUEUED and row.attempt is None  # a pause before a retry included
        return seen, await self.ahead(row.place, seen.pool) if is_ahead else 0

    async def with_wait(self, task: T) -> T:
        """The task, with the wait as it is now if it is QUEUED; otherwise with that of its creation."""
        if task.status != TaskStatus.QUEUED:
            return task
        row = await self._database.single(lambda c: queries.progress(c, task.task_id))
        if row is None or row.status != TaskStatus.QUEUED:
            return task
        wait_s = progress_estimate.wait_s(row, *await self.of_task(row))
        return replace(task, estimated_wait_s=stored_wait(wait_s))

    async def ahead(self, place: QueuePlace, pool: list[int]) -> int:
        """The number of tasks of these types that wait before a place.

        From `COUNTED` on the count starts at a milestone.
        """
        count = await self._database.run(lambda c: position.ahead(c, place, pool, limit=position.COUNTED))
        if count < position.COUNTED:
            return count
        before = {task_type: one.before(place) for task_type, one in (await self._milestones_of(pool)).items()}
        marks = {task_type: mark for task_type, (_, mark) in before.items()}
        after = await self._database.run(lambda c: position.between(c, marks, place))
        return sum(count for count, _ in before.values()) + after

    async def usual_s(self, task_type: int) -> float:
        """The usual run time of the type in seconds: the median of its last tasks."""

        async def read() -> float | None:
            return (await self._database.single(lambda c: capacity.usual_durations(c, [task_type]))).get(task_type)

        known = await self._usual.get(task_type, read)
        return USUAL_DURATION_S if known is None else known  # none has ended yet, and the first end counts at once

    async def places(self, pool: list[int], tasks: Mapping[str, QueuePlace]) -> dict[str, tuple[int, bool]]:
        """The number of tasks of these types before each of these tasks. True: it is exact, as it is near the head."""
        near = await self._database.single(lambda c: position.first(c, pool, [*tasks], limit=position.COUNTED))
        places = {task_id: (ahead, True) for task_id, ahead in near.items()}
        if far := tasks.keys() - near.keys():
            marks = (await self._milestones_of(pool)).values()
            places |= {task_id: (sum(one.about(tasks[task_id]) for one in marks), False) for task_id in far}
        return places

    async def for_new(self, wanted: Wanted) -> Outlook:
        """The outlook of a new task."""
        capacity = await self.of(wanted)
        is_long = any(other in self._long for other in capacity.pool)
        milestones = await self._milestones_of(capacity.pool) if is_long else None
        return Outlook(capacity, milestones, lambda: self._long.update(dict.fromkeys(capacity.pool, True)))

    async def _milestones_of(self, pool: list[int]) -> dict[int, Milestones]:
        return {task_type: await self._milestones_of_type(task_type) for task_type in pool}

    async def _milestones_of_type(self, task_type: int) -> Milestones:
        ask = partial(position.milestones, task_type=task_type, every=MILESTONE_EVERY)
        return await self._milestones.get(task_type, lambda: self._database.run(ask))

    def forget(self) -> None:
        """Forget the cached capacity, and what is being read now: this process has changed the fleet itself."""
        self._capacity = _Shared(FRESH_S)

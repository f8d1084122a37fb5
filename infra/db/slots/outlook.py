"""The outlook of a new task: the number of tasks before it, and its wait for a slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from infra.db.connection import Connection
from infra.db.ops import counters
from infra.db.queue import position
from infra.db.queue.order import QueuePlace
from infra.db.queue.position import Milestones
from infra.db.slots import capacity
from infra.db.slots.capacity import Capacity
from infra.db.slots.eligibility import Wanted
from infra.db.slots.wait_estimate import estimated_ahead, expected_wait_s


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Outlook:
    """The fleet as a new task sees it, and the milestones of its queues where those are long.

    `found_long` is called where too many are before the task to count them.
    """

    capacity: Capacity
    milestones: Mapping[int, Milestones] | None = None
    found_long: Callable[[], None] = _nothing

    async def now(self, connection: Connection, wanted: Wanted) -> Outlook:
        """The outlook with the current fleet; the cached one may be half a second old."""
        return replace(self, capacity=await capacity.read(connection, wanted))

    async def wait_s(self, connection: Connection, task_type: int, place: QueuePlace | None) -> int | None:
        """The estimated wait in seconds at a place; None if no ACTIVE node serves the task.

        `place` None: no waiting task could go before it.
        """
        ahead = 0 if place is None else await self._ahead(connection, task_type, place)
        return expected_wait_s(ahead, self.capacity)

    async def _ahead(self, connection: Connection, task_type: int, place: QueuePlace) -> int:
        """The number of tasks before a place; from `COUNTED` on it is an estimate, so that creating costs the same at
        any length."""
        ahead = sum(one.about(place) for one in (self.milestones or {}).values())
        if ahead >= position.COUNTED:
            self.found_long()
            return ahead
        ahead = await position.ahead(connection, place, self.capacity.pool, limit=position.COUNTED)
        if ahead < position.COUNTED:
            return ahead
        self.found_long()
        unfinished = await counters.unfinished_by_type(connection, [task_type])
        return estimated_ahead(ahead, unfinished[task_type], self.capacity)

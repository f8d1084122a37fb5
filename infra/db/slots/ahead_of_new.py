"""How many tasks are before a new one, for its estimated wait."""

from __future__ import annotations

from collections.abc import Mapping

from infra.db.connection import Connection
from infra.db.ops import counters
from infra.db.queue import position
from infra.db.queue.order import Place
from infra.db.queue.position import Milestones
from infra.db.slots.capacity import Capacity

COUNTED = 500
"""The most tasks per type and class that are counted, so that creating costs the same at any length."""


async def count(
    connection: Connection,
    task_type: int,
    place: Place,
    capacity: Capacity,
    milestones: Mapping[int, Milestones] | None,
) -> int:
    """The number of tasks before a new task's place; from `COUNTED` on it is an estimate."""
    if milestones is not None and (about := sum(one.about(place) for one in milestones.values())) >= COUNTED:
        return about
    ahead = await position.ahead(connection, place, capacity.pool, limit=COUNTED)
    if ahead < COUNTED:
        return ahead
    return max(ahead, (await counters.unfinished_by_type(connection))[task_type] - len(capacity.remaining_s))

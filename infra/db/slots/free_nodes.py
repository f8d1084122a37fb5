"""Nodes with free slots that are still to be assigned."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from infra.db import clock
from infra.db.connection import Connection
from infra.db.queue import order
from infra.db.slots import eligibility
from infra.db.slots.eligibility import Wanted

# In the queue's order, otherwise the plan reads all tasks that there are: it takes most of them for tasks that wait.
_WITH_UNUSED_SLOTS = f"""
    SELECT g.gpu_id FROM gpus g
     WHERE {eligibility.has_free_slot("g")}
       AND EXISTS (SELECT FROM unnest(g.task_types) AS types(task_type) CROSS JOIN LATERAL (
                          SELECT FROM tasks t
                           WHERE t.task_type = types.task_type AND t.waiting_since IS NOT NULL
                             AND {clock.long_ago("t.waiting_since", "interval '1 s'")}
                           ORDER BY {order.in_order("t")} LIMIT 1) first)
    """
_WITH_FREE_SLOTS = f"""
    SELECT g.gpu_id FROM gpus g
     WHERE {eligibility.has_free_slot("g")} AND g.task_types && CAST(%(task_types)s AS bigint[])
    """
_FREE_SLOTS = f"""
    SELECT COALESCE(sum({eligibility.slots("g")} - {eligibility.used("g")}), 0)::bigint
      FROM gpus g
     WHERE {eligibility.takes("g", eligibility.GIVEN)} AND {eligibility.has_free_slot("g")}
       AND NOT {eligibility.barred("g", eligibility.GIVEN)}
    """


async def slots(connection: Connection, wanted: Wanted) -> int:
    """The number of free slots for such tasks."""
    return await connection.one(int, _FREE_SLOTS, wanted.parameters(connection.policy))


async def with_free_slots(connection: Connection, task_types: Collection[int]) -> Sequence[str]:
    """Nodes with a free slot that run one of these types."""
    return await connection.all(str, _WITH_FREE_SLOTS, {"task_types": list(task_types)})


async def with_unused_slots(connection: Connection) -> Sequence[str]:
    """Nodes with a free slot where a task of their types has waited for a second: mostly nodes whose rest has ended."""
    return await connection.all(str, _WITH_UNUSED_SLOTS)

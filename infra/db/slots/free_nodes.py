"""Nodes with free slots that are still to be assigned."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from infra.db import clock
from infra.db.connection import Connection
from infra.db.queue import order
from infra.db.slots import eligibility

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
_ASKED = eligibility.Task("asked.task_type", "asked.vip_nodes")
_FREE_SLOTS = f"""
    SELECT asked.*, COALESCE(sum({eligibility.slots("g")} - {eligibility.used("g")}), 0)::bigint AS free
      FROM unnest(CAST(%(task_types)s AS bigint[]), CAST(%(vip_nodes)s AS boolean[])) AS asked(task_type, vip_nodes)
      LEFT JOIN gpus g ON {eligibility.takes("g", _ASKED)} AND {eligibility.has_free_slot("g")}
     GROUP BY 1, 2
    """


class _Free(NamedTuple):
    task_type: int
    vip_nodes: bool
    free: int


async def slots(connection: Connection, asked: Collection[tuple[int, bool]]) -> dict[tuple[int, bool], int]:
    """The number of free slots for each type, with or without the nodes that serve VIP tasks first."""
    values = {"task_types": [one for one, _ in asked], "vip_nodes": [vip for _, vip in asked]}
    return {(row.task_type, row.vip_nodes): row.free for row in await connection.all(_Free, _FREE_SLOTS, values)}


async def with_free_slots(connection: Connection, task_types: Collection[int]) -> Sequence[str]:
    """Nodes with a free slot that run one of these types."""
    return await connection.all(str, _WITH_FREE_SLOTS, {"task_types": list(task_types)})


async def with_unused_slots(connection: Connection) -> Sequence[str]:
    """Nodes with a free slot where a task of their types has waited for a second: mostly nodes whose rest has ended."""
    return await connection.all(str, _WITH_UNUSED_SLOTS)

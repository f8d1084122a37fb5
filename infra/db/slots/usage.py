"""The fleet's slots by what they do now, and its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.slots import eligibility

STATES = ("busy", "free", "resting", "draining", "offline", "faulty")
"""`busy` if an attempt holds the slot, otherwise the state of its node. Only `free` takes work."""
_NODES = f"""
    SELECT gpu_id, status, slots, LEAST(used, slots) AS busy, GREATEST(takes - used, 0) AS free, rest
      FROM (SELECT g.gpu_id, g.status, g.max_concurrent_tasks AS slots, {eligibility.state("g")} AS rest,
                   {eligibility.used("g")} AS used, {eligibility.slots("g")} AS takes
              FROM gpus g WHERE g.gone_at IS NULL) nodes
     ORDER BY gpu_id
    """
_SLOTS = f"""
    SELECT types.task_type, sum(node.slots)::bigint AS slots, sum(least(node.used, node.slots))::bigint AS used
      FROM (SELECT g.task_types, {eligibility.used("g")} AS used,
                   CASE WHEN {eligibility.works("g")} THEN {eligibility.slots("g")} ELSE 0 END AS slots
              FROM gpus g WHERE g.gone_at IS NULL) node
     CROSS JOIN LATERAL unnest(node.task_types) AS types(task_type)
     GROUP BY 1
    """
_ALL_SLOTS = f"""
    SELECT COALESCE(sum(slots), 0)::bigint AS slots, COALESCE(sum(least(used, slots)), 0)::bigint AS used
      FROM (SELECT {eligibility.slots("g")} AS slots, {eligibility.used("g")} AS used
              FROM gpus g WHERE {eligibility.works("g")}) node
    """


@dataclass(frozen=True)
class Node:
    """A registered node: its slots, the busy ones, those that would take work, and the state of the node."""

    gpu_id: str
    status: str
    slots: int
    busy: int
    free: int
    rest: str


class Slots(NamedTuple):
    """Slots of the nodes that take work, one of a node that runs probes; and those of them that are held."""

    slots: int
    used: int


class _OfType(NamedTuple):
    task_type: int
    slots: int
    used: int


async def nodes(connection: Connection) -> list[Node]:
    """Every registered node; the cost grows with the fleet, not with its history."""
    return await connection.all(Node, _NODES)


def by_state(fleet: list[Node]) -> dict[str, int]:
    """The number of slots in each of `STATES`."""
    counts = dict.fromkeys(STATES, 0)
    for node in fleet:
        free = node.free if node.rest == "free" else 0  # one that is on probation takes one task at a time
        counts["busy"] += node.busy
        counts["free"] += free
        counts["resting" if node.rest == "free" else node.rest] += node.slots - node.busy - free
    return counts


async def by_type(connection: Connection) -> dict[int, Slots]:
    """The slots that each type can use. A slot of a node for several types counts for each."""
    return {row.task_type: Slots(row.slots, row.used) for row in await connection.all(_OfType, _SLOTS)}


async def of_fleet(connection: Connection) -> Slots:
    """The slots of the fleet."""
    return await connection.one(Slots, _ALL_SLOTS)

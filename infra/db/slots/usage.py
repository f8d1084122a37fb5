"""The fleet's slots by what they do now, and its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.slots import eligibility

STATES = ("busy", "free", "resting", "draining", "offline", "faulty")
"""What a slot can be: busy if an attempt holds it; else as its node is, of which `free` alone takes work."""
_NODES = f"""
    SELECT gpu_id, status, slots, LEAST(used, slots) AS busy,
           CASE WHEN status <> 'ACTIVE' THEN lower(status) WHEN NOT works THEN 'draining'
                WHEN resting THEN 'resting' ELSE 'free' END AS rest
      FROM (SELECT g.gpu_id, g.status, g.max_concurrent_tasks AS slots, {eligibility.works("g")} AS works,
                   {eligibility.rests("g")} AS resting, {eligibility.used("g")} AS used
              FROM gpus g WHERE g.gone_at IS NULL) nodes
     ORDER BY gpu_id
    """


@dataclass(frozen=True)
class Node:
    """A registered node: its slots, the busy ones, and the state of the others."""

    gpu_id: str
    status: str
    slots: int
    busy: int
    rest: str


async def nodes(connection: Connection) -> list[Node]:
    """Every registered node; the cost grows with the fleet, not with its history."""
    return await connection.all(Node, _NODES)


def by_state(fleet: list[Node]) -> dict[str, int]:
    """The number of slots in each of `STATES`."""
    counts = dict.fromkeys(STATES, 0)
    for node in fleet:
        counts["busy"] += node.busy
        counts[node.rest] += node.slots - node.busy
    return counts

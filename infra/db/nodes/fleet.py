"""The fleet at a glance: every node with the tasks on its slots, in two short reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db import holding
from infra.db.connection import Connection
from infra.db.slots import eligibility

MOST = 2000
"""Nodes that are read at most."""

_NODES = f"""
    SELECT g.gpu_id, g.hostname, g.status, g.task_types, g.priority_queue, g.max_concurrent_tasks,
           {eligibility.slots("g")} AS takes, g.status_since, g.drained_at IS NOT NULL AS draining, g.fault_reason,
           left(g.metadata ->> 'gpuModel', 100) AS model, {eligibility.rests("g")} AS rests
      FROM gpus g
     WHERE g.gone_at IS NULL ORDER BY g.gpu_id LIMIT {MOST + 1}
    """
_SLOTS = f"""
    SELECT a.gpu_id, a.slot, a.task_id, a.progress, a.closed_at IS NOT NULL AS stops
      FROM attempts a WHERE {holding.holds("a")} ORDER BY a.gpu_id, a.slot
    """


@dataclass(frozen=True)
class FleetNode:
    """A node of the fleet."""

    gpu_id: str
    hostname: str
    status: str
    task_types: list[int]
    priority_queue: str
    max_concurrent_tasks: int
    takes: int
    """The number of tasks that it takes at a time: one while it runs probes."""
    status_since: datetime
    draining: bool
    fault_reason: str | None
    model: str | None
    rests: bool
    """Whether the node gets no work for a while, after failures in a row."""


@dataclass(frozen=True)
class HeldSlot:
    """A slot that an attempt holds; `stops`: the attempt is closed, and its process may still run."""

    gpu_id: str
    slot: int
    task_id: str
    progress: int | None
    stops: bool


async def nodes(connection: Connection) -> list[FleetNode]:
    """Every registered node; one more than MOST if there are more."""
    return await connection.all(FleetNode, _NODES)


async def held(connection: Connection) -> dict[str, list[HeldSlot]]:
    """The held slots of each node: as many as there are slots in the fleet at most."""
    found: dict[str, list[HeldSlot]] = {}
    for row in await connection.all(HeldSlot, _SLOTS):
        found.setdefault(row.gpu_id, []).append(row)
    return found

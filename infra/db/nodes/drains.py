"""Drains: a draining node gets no new attempt (`slots.eligibility.works`) until it is undrained.

A drain is no status: a draining node may be ACTIVE, OFFLINE or FAULTY, or leave and register again. The row keeps it
through all of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection
from infra.db.locks import Release

# A node joins the drain of somebody else: it may only bring its deadline forward.
_JOINS = "%(by_node)s AND drained_at IS NOT NULL AND drained_by IS DISTINCT FROM %(by)s"
_DEADLINE = "CAST(%(deadline)s AS timestamptz)"
# A repeated drain keeps its beginning: nothing has been claimed since.
_DRAIN = f"""
    UPDATE gpus SET drained_at = COALESCE(drained_at, clock_timestamp()),
           drained_by = CASE WHEN {_JOINS} THEN drained_by ELSE %(by)s END,
           drain_reason = CASE WHEN {_JOINS} THEN drain_reason ELSE %(reason)s END,
           drain_deadline = CASE WHEN {_JOINS} THEN LEAST(drain_deadline, {_DEADLINE}) ELSE {_DEADLINE} END
     WHERE gpu_id = %(gpu_id)s
       AND CASE WHEN {_JOINS} THEN {_DEADLINE} < COALESCE(drain_deadline, 'infinity')
                ELSE drained_at IS NULL OR drain_reason <> %(reason)s
                     OR drain_deadline IS DISTINCT FROM {_DEADLINE} END
 RETURNING epoch
"""
_UNDRAIN = """
    UPDATE gpus SET drained_at = NULL, drained_by = NULL, drain_reason = NULL, drain_deadline = NULL
     WHERE gpu_id = %(gpu_id)s AND drained_at IS NOT NULL
 RETURNING epoch
"""
_OVERDUE = """
    SELECT g.gpu_id FROM gpus g
     WHERE g.drained_at IS NOT NULL AND g.drain_deadline <= clock_timestamp()
       AND EXISTS (SELECT FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL)
"""


@dataclass(frozen=True)
class Drain:
    """A request to drain a node. At the deadline, if there is one, attempts that still run are handed back.

    `by_node`: a node's own key asks for it.
    """

    by: str
    reason: str
    deadline: datetime | None = None
    by_node: bool = False


async def drain(connection: Connection, gpu_id: str, how: Drain) -> int | None:
    """Drain a node; of a draining one replace reason and deadline, or bring the deadline forward (`_JOINS`).

    Returns the node's epoch, or None if nothing has changed.
    """
    return await connection.one_or_none(int, _DRAIN, {"gpu_id": gpu_id, **how.__dict__})


async def undrain(connection: Connection, release: Release) -> int | None:
    """End a node's drain. Returns its epoch, or None if it was not draining."""
    return await connection.one_or_none(int, _UNDRAIN, release.__dict__)


async def overdue(connection: Connection) -> list[str]:
    """Nodes that hold open attempts past their drain's deadline."""
    return await connection.all(str, _OVERDUE)

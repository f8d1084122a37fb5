"""Releasing an attempt: its slot is free once it is closed and its process is gone (INVARIANTS 6)."""

from __future__ import annotations

from infra.db import clock, locks
from infra.db.connection import Connection
from infra.db.nodes.queries import hold
from infra.db.slots import assign
from infra.temporal.notifications import Notifications
from workflows.domain.attempt import HELD_S

_GPU_ID = "SELECT gpu_id FROM attempts WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND released_at IS NULL"
_RELEASE = """
    UPDATE attempts SET released_at = clock_timestamp()
     WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND closed_at IS NOT NULL AND released_at IS NULL
    """
_IS_OVERDUE = "released_at IS NULL AND " + clock.long_ago("closed_at", f"interval '{HELD_S:g} s'")
_RELEASE_OVERDUE = f"UPDATE attempts SET released_at = clock_timestamp() WHERE gpu_id = %(gpu_id)s AND {_IS_OVERDUE}"
_WITH_OVERDUE = f"SELECT DISTINCT gpu_id FROM attempts WHERE {_IS_OVERDUE}"


async def release(connection: Connection, task_id: str, attempt: int) -> Notifications:
    """Free the slot of a closed attempt, and hand it over. Does nothing if it is free."""
    key = {"task_id": task_id, "attempt": attempt}
    gpu_id = await connection.one_or_none(str, _GPU_ID, key)
    if gpu_id is None:
        return Notifications()
    await _hold(connection, gpu_id)
    return await _assign(connection, gpu_id, freed=await connection.execute(_RELEASE, key))


async def release_overdue(connection: Connection, gpu_id: str) -> Notifications:
    """Free the slots of a node that closed attempts have held for `HELD_S`, and hand them over."""
    await _hold(connection, gpu_id)
    return await _assign(connection, gpu_id, freed=await connection.execute(_RELEASE_OVERDUE, {"gpu_id": gpu_id}))


async def with_overdue(connection: Connection) -> list[str]:
    """Nodes with slots that closed attempts have held for `HELD_S`."""
    return await connection.all(str, _WITH_OVERDUE)


async def _hold(connection: Connection, gpu_id: str) -> None:
    await locks.release(connection, gpu_id)
    await hold(connection, gpu_id)


async def _assign(connection: Connection, gpu_id: str, *, freed: int) -> Notifications:
    return Notifications(grants=await assign.assign(connection, gpu_id) if freed else [])

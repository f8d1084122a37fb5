"""Releasing an attempt: its slot is free once it is closed and its process is gone (INVARIANTS 6)."""

from __future__ import annotations

from infra.db import holding, locks
from infra.db.connection import Connection
from infra.db.nodes.queries import hold
from infra.db.slots import assign
from workflows.notifications import Notifications

_RELEASE = """
    UPDATE attempts SET released_at = clock_timestamp()
     WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND closed_at IS NOT NULL AND released_at IS NULL
    """
_RECORD = f"""
    UPDATE attempts SET released_at = clock_timestamp()
     WHERE (task_id, attempt) IN (
           SELECT task_id, attempt FROM attempts WHERE {holding.IS_OVER} LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    """


async def release(connection: Connection, task_id: str, attempt: int) -> Notifications:
    """Free the slot of a closed attempt, and assign it. Does nothing if it is free."""
    release = await locks.releasing_attempt(connection, task_id, attempt)
    if release is None:
        return Notifications()
    await hold(connection, release.gpu_id)
    freed = await connection.execute(_RELEASE, {"task_id": task_id, "attempt": attempt})
    return Notifications(grants=await assign.assign_released(connection, release) if freed else [])


async def record(connection: Connection, limit: int) -> None:
    """Record which attempts hold no slot any more, since `HELD_S` has passed: at most `limit` of them."""
    await connection.execute(_RECORD, {"limit": limit})

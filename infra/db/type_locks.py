"""Advisory locks of task types: why no wake-up is lost (see `claims`).

A claim that misses takes its type's lock exclusively, a release takes it shared, each until its transaction ends. The
types share `LOCKS` locks, so that no number of types and nodes fills Postgres' lock table; types that share one only
wait for each other. A transaction takes its locks in one statement and in order.
"""

from __future__ import annotations

from sqlalchemy import text

from infra.db.connection import Connection

_TYPE_LOCK = 7101  # first key of the advisory locks of task types
LOCKS = 64
"""Neighbouring small numbers, as types usually are, have locks of their own."""


def _lock_of(task_type: str) -> str:
    return f"CAST({task_type} & {LOCKS - 1} AS integer)"


EXCLUSIVE = f"pg_advisory_xact_lock({_TYPE_LOCK}, {_lock_of('CAST(:task_type AS bigint)')})"
"""For statements that take another lock after it."""
_SHARED = f"pg_advisory_xact_lock_shared({_TYPE_LOCK}, h)"
_LOCKS_OF = f"SELECT DISTINCT {_lock_of('t')} AS h FROM gpus, unnest(task_types) t WHERE gpu_id = {{gpu_id}} ORDER BY 1"
SHARE_OF_ATTEMPT = f"(SELECT count({_SHARED}) FROM ({_LOCKS_OF.format(gpu_id='a.gpu_id')}) locks)"
"""For statements that read an attempt `a` anyway: opens the release of its node."""

_EXCLUSIVE = text(f"SELECT {EXCLUSIVE}")
_SHARE_OF_NODE = text(f"SELECT {_SHARED} FROM ({_LOCKS_OF.format(gpu_id=':gpu_id')}) locks")
_SHARE_OF_ATTEMPT = text(
    f"SELECT a.gpu_id, {SHARE_OF_ATTEMPT} FROM attempts a WHERE a.task_id = :task_id AND a.attempt = :attempt"
)
_SHARE_OF_REGISTRATION = text(
    f"""
    SELECT {_SHARED}
      FROM (SELECT DISTINCT {_lock_of("t")} AS h
              FROM (SELECT unnest(task_types) AS t FROM gpus WHERE gpu_id = :gpu_id
                     UNION ALL SELECT unnest(CAST(:task_types AS bigint[]))) types
             ORDER BY 1) locks
    """
)


async def hold(connection: Connection, task_type: int) -> None:
    """Take the type's lock exclusively: from now on nobody frees a slot for this type."""
    await connection.execute(_EXCLUSIVE, {"task_type": task_type})


async def open_release(connection: Connection, gpu_id: str) -> None:
    """Take the locks of a node's types shared. Must come first in every transaction that frees capacity of a node."""
    await connection.execute(_SHARE_OF_NODE, {"gpu_id": gpu_id})


async def open_release_of(connection: Connection, task_id: str, attempt: int) -> str | None:
    """As `before_release`, for the node of an attempt. Returns the node, or None if there is no such attempt."""
    key = {"task_id": task_id, "attempt": attempt}
    gpu_id: str | None = (await connection.execute(_SHARE_OF_ATTEMPT, key)).scalar_one_or_none()
    return gpu_id


async def open_registration(connection: Connection, gpu_id: str, task_types: list[int]) -> None:
    """As `before_release`, for a node that is about to have these types, and may have others now."""
    await connection.execute(_SHARE_OF_REGISTRATION, {"gpu_id": gpu_id, "task_types": task_types})

"""Advisory locks of task types: why no wake-up is lost (see `claims`).

Exclusive for who misses a slot, shared for who frees one, each until its transaction ends.
"""

from __future__ import annotations

from sqlalchemy import text

from infra.db.connection import Connection

_TYPE_LOCK = 7101  # first key of the advisory locks of task types

EXCLUSIVE = f"pg_advisory_xact_lock({_TYPE_LOCK}, hashint8(CAST(:task_type AS bigint)))"
"""For statements that take another lock after it."""
_SHARED = f"pg_advisory_xact_lock_shared({_TYPE_LOCK}, h)"
_TYPES_OF = "SELECT DISTINCT hashint8(t) AS h FROM gpus, unnest(task_types) t WHERE gpu_id = {gpu_id} ORDER BY 1"
SHARE_OF_ATTEMPT = f"(SELECT count({_SHARED}) FROM ({_TYPES_OF.format(gpu_id='a.gpu_id')}) types)"
"""For statements that read an attempt `a` anyway: opens the release of its node."""

_EXCLUSIVE = text(f"SELECT {EXCLUSIVE}")
_SHARE_OF_NODE = text(f"SELECT {_SHARED} FROM ({_TYPES_OF.format(gpu_id=':gpu_id')}) types")
_SHARE_OF_ATTEMPT = text(
    f"SELECT a.gpu_id, {SHARE_OF_ATTEMPT} FROM attempts a WHERE a.task_id = :task_id AND a.attempt = :attempt"
)
_SHARE_LISTED = text(
    f"SELECT {_SHARED}"
    "  FROM (SELECT DISTINCT hashint8(t) AS h FROM unnest(CAST(:task_types AS bigint[])) t ORDER BY 1) types"
)


async def hold(connection: Connection, task_type: int) -> None:
    """Exclusively: from now on nobody frees a slot for this type."""
    await connection.execute(_EXCLUSIVE, {"task_type": task_type})


async def open_release(connection: Connection, gpu_id: str) -> None:
    """Must come first in every transaction that frees capacity of a node."""
    await connection.execute(_SHARE_OF_NODE, {"gpu_id": gpu_id})


async def open_release_of(connection: Connection, task_id: str, attempt: int) -> str | None:
    """The same for the node of an attempt, which is returned; None where there is no such attempt."""
    key = {"task_id": task_id, "attempt": attempt}
    gpu_id: str | None = (await connection.execute(_SHARE_OF_ATTEMPT, key)).scalar_one_or_none()
    return gpu_id


async def open_release_to(connection: Connection, task_types: list[int]) -> None:
    """The same for a node that has no row yet."""
    await connection.execute(_SHARE_LISTED, {"task_types": task_types})

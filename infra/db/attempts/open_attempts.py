"""Changes of open attempts that leave them open."""

from __future__ import annotations

from infra.db.connection import Connection

_PROGRESS = (
    "UPDATE attempts SET progress = %(progress)s, progress_at = clock_timestamp()"
    " WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND closed_at IS NULL"
)
_ADOPT = (
    "UPDATE attempts SET gpu_epoch = %(epoch)s"
    " WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND closed_at IS NULL AND gpu_epoch < %(epoch)s"
)


async def record_progress(connection: Connection, task_id: str, attempt: int, progress: int) -> None:
    """Keep the node's own progress (percent) of an open attempt."""
    await connection.execute(_PROGRESS, {"task_id": task_id, "attempt": attempt, "progress": progress})


async def adopt(connection: Connection, task_id: str, attempt: int, epoch: int) -> None:
    """Let an attempt of an earlier registration go on under this one; one of a later registration stays there."""
    await connection.execute(_ADOPT, {"task_id": task_id, "attempt": attempt, "epoch": epoch})

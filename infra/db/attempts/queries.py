"""Reading attempts: by token, by holder, by node."""

from __future__ import annotations

from sqlalchemy import text

from infra.db.connection import Connection, Row

_OPEN_ON = text(
    "SELECT task_id, attempt, gpu_epoch, slot, ip, port FROM attempts WHERE gpu_id = :gpu_id AND closed_at IS NULL"
)
_HOLDERS = text(
    """
    SELECT a.token, a.gpu_id, COALESCE(g.lineage = :lineage, CAST(:lineage AS text) IS NULL) AS own
      FROM attempts a LEFT JOIN gpus g USING (gpu_id) WHERE a.task_id = :task_id
    """
)
_FIND = text(
    """
    SELECT a.task_id, a.attempt, a.token, a.gpu_id, a.closed_at, a.outcome, a.reason, r.result
      FROM attempts a LEFT JOIN task_results r USING (task_id, attempt)
     WHERE a.task_id = :task_id AND a.token = :token
    """
)


async def find(connection: Connection, task_id: str, token: str) -> Row | None:
    """The task's attempt that has this token, or None."""
    return (await connection.execute(_FIND, {"task_id": task_id, "token": token})).one_or_none()


async def holders(connection: Connection, task_id: str, lineage: str | None) -> list[Row]:
    """The task's attempts: token, gpu_id, and whether that node is of this lineage (`own`); with None all are."""
    return list((await connection.execute(_HOLDERS, {"task_id": task_id, "lineage": lineage})).all())


async def open_on(connection: Connection, gpu_id: str) -> list[Row]:
    """The open attempts of a node: task_id, attempt, gpu_epoch, slot, ip, port."""
    return list((await connection.execute(_OPEN_ON, {"gpu_id": gpu_id})).all())

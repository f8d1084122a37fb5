"""The tasks that an earlier request with the same Idempotency-Key created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.db.connection import Connection, columns
from infra.db.tasks.new_task import NewTask, StoredTask
from workflows.domain.errors import IdempotencyConflict

_SEEN = f"""
    SELECT {columns(StoredTask)}, idempotency_key, request_hash,
           EXISTS (SELECT FROM outbox o WHERE o.task_id = tasks.task_id) AS unstarted
      FROM tasks WHERE lineage = %(lineage)s AND idempotency_key = ANY (%(keys)s)
    """
_IS_KNOWN = "SELECT EXISTS (SELECT FROM tasks WHERE lineage = %(lineage)s AND idempotency_key = %(key)s)"


@dataclass(frozen=True)
class Seen(StoredTask):
    """A task that exists; `unstarted`: its workflow has not been heard of, and may be started again."""

    idempotency_key: str
    request_hash: str | None
    unstarted: bool


async def seen(connection: Connection, tasks: Sequence[NewTask]) -> list[Seen]:
    """The tasks that the same caller's request has created before; none if it has not been seen.

    Raises IdempotencyConflict if it was another request.
    """
    if tasks[0].idempotency_key is None:
        return []
    wanted = {"lineage": tasks[0].lineage, "keys": [task.idempotency_key for task in tasks]}
    found = {row.idempotency_key: row for row in await connection.all(Seen, _SEEN, wanted)}
    if not found:
        return []
    if len(found) < len(tasks) or any(row.request_hash != tasks[0].request_hash for row in found.values()):
        raise IdempotencyConflict
    return [found[task.idempotency_key or ""] for task in tasks]


async def is_known(connection: Connection, lineage: str, key: str | None) -> bool:
    """Whether a task of this key exists, of whatever request."""
    return key is not None and await connection.one(bool, _IS_KNOWN, {"lineage": lineage, "key": key})

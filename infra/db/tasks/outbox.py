"""The outbox: tasks whose workflow has not been started yet, for all that is known (ADR 0030).

A creation writes its entry in its own transaction. The start is sent after the commit, and the entry is deleted a
moment later, with others. What stays is sent by the reconciler. It is a table apart from `tasks`, because only a claim
may lock the row of a waiting task: an assignment skips locked rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from infra.db.connection import Connection

ADD = "INSERT INTO outbox (task_id) SELECT task_id FROM created"
"""Part of the statement that creates a task."""
_CLEAR = "DELETE FROM outbox WHERE task_id = ANY (%(task_ids)s)"
_CLEAR_ENDED = (
    "DELETE FROM outbox o WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.task_id = o.task_id AND t.completed_at IS NULL)"
)


async def clear(connection: Connection, task_ids: Iterable[str]) -> None:
    """Delete the entries of tasks whose workflow has been started."""
    await connection.execute(_CLEAR, {"task_ids": list(task_ids)})


async def clear_ended(connection: Connection) -> None:
    """Delete the entries of tasks that have ended."""
    await connection.execute(_CLEAR_ENDED)

"""The outboxes: tasks whose workflow must be started (ADR 0030), and ended tasks whose workflow must be notified.

A creation writes its entry in its own transaction. The start is sent after the commit, and the entry is deleted a
moment later, with others. What stays is sent by the reconciler. It is a table apart from `tasks`, because an assignment
skips locked rows: a write to the row of a waiting task could cost it a slot.

An end from outside of the workflow writes an entry in the same way; the leader sends what stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from infra.db import clock
from infra.db.connection import Connection, listed
from workflows.domain.attempt import Outcome
from workflows.domain.task import FROM_OUTSIDE

ADD = "INSERT INTO outbox (task_id) SELECT task_id FROM created"
"""Part of the statement that creates a task."""
_CLEAR = f"""
    WITH cleared AS (DELETE FROM outbox WHERE task_id = ANY (%(task_ids)s))
    INSERT INTO outbox_ends (task_id)  -- an end before the start reached no workflow
    SELECT task_id FROM tasks WHERE task_id = ANY (%(task_ids)s) AND end_reason IN ({listed(FROM_OUTSIDE)})
        ON CONFLICT DO NOTHING
    """
# Each task is looked up by its key: as a join a plan may, by old statistics, go over all tasks for each entry.
_CLEAR_ENDED = f"""
    WITH cleared AS (
        DELETE FROM outbox WHERE task_id IN (
               SELECT o.task_id FROM outbox o
                WHERE COALESCE((SELECT t.completed_at IS NOT NULL FROM tasks t WHERE t.task_id = o.task_id), true)
                LIMIT %(limit)s)
     RETURNING task_id)
    INSERT INTO outbox_ends (task_id)  -- it may have been started after the leader looked for it in vain
    SELECT t.task_id FROM cleared JOIN tasks t USING (task_id) WHERE t.end_reason IN ({listed(FROM_OUTSIDE)})
        ON CONFLICT DO NOTHING
    """
ADD_ENDS = f""",
        added_ends AS (
            INSERT INTO outbox_ends (task_id)
            SELECT task_id FROM moved WHERE %(end_reason)s IN ({listed(FROM_OUTSIDE)}) ON CONFLICT DO NOTHING)"""
"""Part of the statement that ends tasks."""
_WAS_ON_NODE = f"EXISTS (SELECT FROM attempts a WHERE a.task_id = o.task_id AND a.outcome = '{Outcome.TASK_ENDED}')"
_PENDING_ENDS = f"""
    SELECT o.task_id, {_WAS_ON_NODE} AS was_on_node FROM outbox_ends o
     WHERE {clock.long_ago("o.ended_at", "interval '2 s'")}
     ORDER BY was_on_node DESC, o.ended_at LIMIT %(limit)s  -- a node stops its work only when the workflow is notified
    """
_CLEAR_ENDS = "DELETE FROM outbox_ends WHERE task_id = ANY (%(task_ids)s)"


class PendingEnd(NamedTuple):
    """A task that was ended from outside; `was_on_node`: a node had it then, and may still run it."""

    task_id: str
    was_on_node: bool


async def clear(connection: Connection, task_ids: Iterable[str]) -> None:
    """Delete the entries of tasks whose workflow has been started."""
    await connection.execute(_CLEAR, {"task_ids": list(task_ids)})


async def clear_ended(connection: Connection, limit: int) -> None:
    """Delete the entries of tasks that have ended: at most `limit` of them."""
    await connection.execute(_CLEAR_ENDED, {"limit": limit})


async def pending_ends(connection: Connection, limit: int) -> list[PendingEnd]:
    """Ends whose workflow may not have been notified: first of tasks that a node had, then the oldest.

    The notification after the commit has two seconds to arrive.
    """
    return await connection.all(PendingEnd, _PENDING_ENDS, {"limit": limit})


async def clear_ends(connection: Connection, task_ids: Iterable[str]) -> None:
    """Delete the entries of ends whose workflow has been notified."""
    await connection.execute(_CLEAR_ENDS, {"task_ids": list(task_ids)})

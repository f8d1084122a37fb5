"""A task's edges as guarded writes: one named function per legal transition (INVARIANTS, "Legal transitions").

Each moves the row only from the expected state, appends the event in the same statement, and says
whether it did. They are called by `attempts` (settling) and `collecting`, inside their transactions.
A note is no edge: it says in the timeline what was mended, and moves nothing.
"""

from __future__ import annotations

from sqlalchemy import TextClause, text

from infra.db.connection import Connection
from workflows.domain.task import TaskStatus, check_edge


def _edge(before: TaskStatus, after: TaskStatus, assignments: str) -> TextClause:
    check_edge(before, after)
    return text(
        f"""
        WITH moved AS (
            UPDATE tasks
               SET status = '{after}', event_seq = event_seq + 1, updated_at = clock_timestamp(), {assignments}
             WHERE task_id = :task_id AND status = '{before}'
         RETURNING task_id, event_seq)
        INSERT INTO task_events (task_id, seq, from_status, to_status, attempt, gpu_id, actor, reason)
        SELECT task_id, event_seq, '{before}', '{after}', :attempt, :gpu_id, :actor, :reason FROM moved
        """
    )


_START = _edge(
    TaskStatus.QUEUED,
    TaskStatus.PROCESSING,
    "gpu_id = :gpu_id, waiting_since = NULL, started_at = GREATEST(clock_timestamp(), created_at),"
    " engine_started_at = COALESCE(engine_started_at, clock_timestamp())",  # only its workflow can have dispatched it
)
_REQUEUE = _edge(
    TaskStatus.PROCESSING,
    TaskStatus.QUEUED,
    "gpu_id = NULL, started_at = NULL, retry_count = COALESCE(:retry_count, retry_count)",
)
_COMPLETE = _edge(
    TaskStatus.PROCESSING,
    TaskStatus.COMPLETED,
    "completed_at = GREATEST(clock_timestamp(), started_at), error_message = NULL",
)
_END = {
    (before, after): _edge(
        before,
        after,
        "completed_at = GREATEST(clock_timestamp(), started_at, created_at), error_message = :reason,"
        " waiting_since = NULL, gpu_id = COALESCE(:gpu_id, gpu_id)",
    )
    for before in (TaskStatus.QUEUED, TaskStatus.PROCESSING)
    for after in (TaskStatus.FAILED, TaskStatus.TIMEOUT)
}

_NOTE = text(
    """
    WITH noted AS (
        UPDATE tasks SET event_seq = event_seq + 1
         WHERE task_id = :task_id AND completed_at IS NULL
           AND event_seq = COALESCE(CAST(:event_seq AS integer), event_seq)
     RETURNING task_id, event_seq, status)
    INSERT INTO task_events (task_id, seq, from_status, to_status, attempt, gpu_id, actor, reason)
    SELECT task_id, event_seq, status, status, :attempt, :gpu_id, :actor, :reason FROM noted
    """
)


class Cause(dict[str, object]):
    """Who moves a task and why: the attempt, its node, the actor, and the reason for the timeline."""

    def __init__(self, task_id: str, attempt: int | None, gpu_id: str | None, actor: str, reason: str | None) -> None:
        super().__init__(task_id=task_id, attempt=attempt, gpu_id=gpu_id, actor=actor, reason=reason)


async def start(connection: Connection, cause: Cause) -> bool:
    """QUEUED → PROCESSING: the node has accepted the attempt."""
    return (await connection.execute(_START, cause)).rowcount == 1


async def requeue(connection: Connection, cause: Cause, retry_count: int | None = None) -> bool:
    """PROCESSING → QUEUED: a retry (with the new `retry_count`), or an attempt that used none up."""
    return (await connection.execute(_REQUEUE, cause | {"retry_count": retry_count})).rowcount == 1


async def complete(connection: Connection, cause: Cause) -> bool:
    """PROCESSING → COMPLETED: the accepted result is collected."""
    return (await connection.execute(_COMPLETE, cause)).rowcount == 1


async def end(connection: Connection, before: TaskStatus, after: TaskStatus, cause: Cause) -> bool:
    """QUEUED or PROCESSING → FAILED or TIMEOUT, `reason` is what the user reads as errorMessage."""
    return (await connection.execute(_END[before, after], cause)).rowcount == 1


async def note(connection: Connection, cause: Cause, event_seq: int | None = None) -> bool:
    """An entry from the task's status to the same one: something was mended that moves no status.

    False, and nothing is written, where the task has ended, or has got another entry since `event_seq` was read.
    """
    return (await connection.execute(_NOTE, cause | {"event_seq": event_seq})).rowcount == 1

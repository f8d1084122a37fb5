"""A task's transitions as guarded writes, one named function each (INVARIANTS, "Legal transitions").

Each moves the row only from the expected state, appends the event in the same statement, and says whether it did.
`settle_attempt` and `collect_attempt` call them in their transactions; `accept` and `complete_and_collect` are whole
steps, and need none.

A note is no transition: it records in the timeline what was repaired, and moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.tasks import outbox
from workflows.domain.attempt import Outcome
from workflows.domain.task import ENDS_AS, EndReason, TaskStatus, check_transition

_CAUSE = (
    "SELECT CAST(%(task_id)s AS text) AS task_id, CAST(%(attempt)s AS integer) AS attempt,"
    " CAST(%(gpu_id)s AS text) AS gpu_id, CAST(%(actor)s AS text) AS actor, CAST(%(reason)s AS text) AS reason"
)


def _transition(
    before: TaskStatus,
    after: TaskStatus,
    assignments: str,
    cause: str = _CAUSE,
    answer: str = "SELECT EXISTS (SELECT FROM moved) FROM cause",
    guard: str = "true",
    also: str = "",
) -> str:
    """`cause` yields what `_CAUSE` does, or nothing if the task is not to be moved; it may be a write itself.

    `guard` is checked on the row as it is once it is locked. `also` are further CTEs, of rows that have `moved`.
    """
    check_transition(before, after)
    return f"""
        WITH cause AS ({cause}),
        moved AS (
            UPDATE tasks
               SET status = '{after}', event_seq = event_seq + 1, updated_at = clock_timestamp(), {assignments}
              FROM cause WHERE tasks.task_id = cause.task_id AND status = '{before}' AND {guard}
         RETURNING cause.*, event_seq),
        recorded AS (
            INSERT INTO task_events (task_id, seq, from_status, to_status, attempt, gpu_id, actor, reason)
            SELECT task_id, event_seq, '{before}', '{after}', attempt, gpu_id, actor, reason FROM moved){also}
        {answer}
        """


_STARTED = (
    "gpu_id = cause.gpu_id, waiting_since = NULL, started_at = GREATEST({at}, created_at),"
    " engine_started_at = COALESCE(engine_started_at, clock_timestamp())"  # the previous version reads it
)
_COMPLETED = "completed_at = GREATEST(clock_timestamp(), started_at), error_message = NULL"
_START = _transition(
    TaskStatus.QUEUED,
    TaskStatus.PROCESSING,
    _STARTED.format(at="clock_timestamp() - make_interval(secs => %(ran_s)s)"),
)
_ACCEPTED = """
        UPDATE attempts SET accepted_at = COALESCE(accepted_at, clock_timestamp())
         WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND closed_at IS NULL
     RETURNING task_id, attempt, gpu_id, CAST(%(actor)s AS text) AS actor, CAST(%(reason)s AS text) AS reason,
               (SELECT g.failure_count > 0 FROM gpus g WHERE g.gpu_id = attempts.gpu_id) AS was_away"""
_ACCEPT = _transition(
    TaskStatus.QUEUED,
    TaskStatus.PROCESSING,
    _STARTED.format(at="clock_timestamp()"),
    cause=_ACCEPTED,
    answer="SELECT gpu_id, was_away FROM cause",
)
_REQUEUE = _transition(
    TaskStatus.PROCESSING,
    TaskStatus.QUEUED,
    "gpu_id = NULL, started_at = NULL, retry_count = COALESCE(%(retry_count)s, retry_count)",
)
_HAS_RESULT = "EXISTS (SELECT FROM task_results r WHERE r.task_id = %(task_id)s AND r.attempt = %(attempt)s)"
_COMPLETE = _transition(TaskStatus.PROCESSING, TaskStatus.COMPLETED, _COMPLETED, cause=f"{_CAUSE} WHERE {_HAS_RESULT}")
_COMPLETE_AND_COLLECT = _transition(
    TaskStatus.PROCESSING,
    TaskStatus.COMPLETED,
    _COMPLETED,
    cause=f"""
        UPDATE attempts SET collected_at = clock_timestamp()
         WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND outcome = '{Outcome.SUCCEEDED}'
           AND collected_at IS NULL
           AND EXISTS (SELECT FROM tasks t WHERE t.task_id = %(task_id)s AND t.status = 'PROCESSING') AND {_HAS_RESULT}
     RETURNING task_id, attempt, gpu_id, CAST(%(actor)s AS text) AS actor, CAST(NULL AS text) AS reason""",
)
_ENDED = (
    "completed_at = GREATEST(clock_timestamp(), started_at, created_at), error_message = cause.reason,"
    " end_reason = %(end_reason)s, waiting_since = NULL, gpu_id = COALESCE(cause.gpu_id, tasks.gpu_id),"
    " engine_started_at = COALESCE(engine_started_at, clock_timestamp())"
)
_END = {
    (before, after): _transition(before, after, _ENDED, also=outbox.ADD_ENDS)
    for before in (TaskStatus.QUEUED, TaskStatus.PROCESSING)
    for after in (TaskStatus.FAILED, TaskStatus.TIMEOUT)
}
_END_WAITING = {
    after: _transition(
        TaskStatus.QUEUED,
        after,
        _ENDED,
        cause="SELECT unnest(CAST(%(task_ids)s AS text[])) AS task_id, CAST(NULL AS integer) AS attempt,"
        " CAST(NULL AS text) AS gpu_id, CAST(%(actor)s AS text) AS actor, CAST(%(reason)s AS text) AS reason",
        answer="SELECT task_id FROM moved",
        guard="waiting_since IS NOT NULL",  # null once it is claimed
        also=outbox.ADD_ENDS,
    )
    for after in (TaskStatus.FAILED, TaskStatus.TIMEOUT)
}


class Cause(dict[str, object]):
    """Why a task moves: the attempt, its node, the actor, and the reason for the timeline."""

    def __init__(self, task_id: str, attempt: int | None, gpu_id: str | None, actor: str, reason: str | None) -> None:
        super().__init__(task_id=task_id, attempt=attempt, gpu_id=gpu_id, actor=actor, reason=reason)


@dataclass(frozen=True)
class Accepted:
    """The node that has accepted an attempt; `was_away`: calls of it had failed before."""

    gpu_id: str
    was_away: bool


async def start(connection: Connection, cause: Cause, ran_s: float) -> bool:
    """QUEUED → PROCESSING: the node's report shows that it has run the attempt, for `ran_s` seconds so far."""
    return await _moved(connection, _START, cause | {"ran_s": ran_s})


async def accept(
    connection: Connection, task_id: str, attempt: int, actor: str, reason: str | None = None
) -> Accepted | None:
    """QUEUED → PROCESSING: the node has accepted the attempt, which is recorded with it. None if it is closed."""
    key = {"task_id": task_id, "attempt": attempt, "actor": actor, "reason": reason}
    return await connection.one_or_none(Accepted, _ACCEPT, key)


async def requeue(connection: Connection, cause: Cause, retry_count: int | None = None) -> bool:
    """PROCESSING → QUEUED: a retry (with the new `retry_count`), or an attempt that used up none."""
    return await _moved(connection, _REQUEUE, cause | {"retry_count": retry_count})


async def complete(connection: Connection, cause: Cause) -> bool:
    """PROCESSING → COMPLETED: the accepted result is collected. Also returns False if there is none."""
    return await _moved(connection, _COMPLETE, cause)


async def complete_and_collect(connection: Connection, task_id: str, attempt: int, actor: str) -> bool:
    """PROCESSING → COMPLETED, for an attempt that has succeeded and is not collected yet, which is recorded with it."""
    return await _moved(connection, _COMPLETE_AND_COLLECT, {"task_id": task_id, "attempt": attempt, "actor": actor})


async def end(
    connection: Connection, before: TaskStatus, after: TaskStatus, cause: Cause, end_reason: EndReason | None = None
) -> bool:
    """QUEUED or PROCESSING → FAILED or TIMEOUT; users read `cause.reason` as errorMessage.

    `end_reason` is one of `ENDS_AS`, or None if the status says it all.
    """
    return await _moved(connection, _END[before, after], cause | {"end_reason": end_reason})


async def end_waiting(
    connection: Connection, task_ids: Sequence[str], actor: str, reason: str, end_reason: EndReason
) -> list[str]:
    """QUEUED → FAILED or TIMEOUT for those of the tasks that wait for a slot. Returns which."""
    values = {"task_ids": list(task_ids), "actor": actor, "reason": reason, "end_reason": end_reason}
    return await connection.all(str, _END_WAITING[ENDS_AS[end_reason]], values)


async def _moved(connection: Connection, transition: str, values: Mapping[str, object]) -> bool:
    return await connection.one_or_none(bool, transition, values) is True

"""Collecting: a task's workflow takes note of how an attempt ended and moves the task."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db.attempts import failures
from infra.db.connection import Connection
from infra.db.slots import eligibility
from infra.db.tasks import transitions as task_transitions
from infra.db.tasks.transitions import Cause
from workflows.domain.attempt import ASKS_ANOTHER, REQUEUES, USES_RETRY, Outcome
from workflows.domain.fault_attribution import Failure, failed_alike_on
from workflows.domain.retry import History, RetryDecision, backoff_s, judge
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import TERMINAL, EndReason, TaskStatus
from workflows.messages import Collected

_LOCK = """
    SELECT t.status, t.retry_count, t.max_retries, t.end_reason, a.gpu_id, a.outcome, a.reason, a.collected_at
      FROM tasks t JOIN attempts a USING (task_id)
     WHERE t.task_id = %(task_id)s AND a.attempt = %(attempt)s FOR UPDATE OF a, t
    """
_STATUS = "SELECT status FROM tasks WHERE task_id = %(task_id)s"
_COLLECTED = (
    "UPDATE attempts SET collected_at = clock_timestamp() WHERE task_id = %(task_id)s AND attempt = %(attempt)s"
)
_MOVE_LAST = (  # the node that failed it last is tried last
    "UPDATE tasks SET {nodes} = array_append(array_remove({nodes}, %(gpu_id)s), %(gpu_id)s) WHERE task_id = %(task_id)s"
)
_AVOID, _BAR = _MOVE_LAST.format(nodes="failed_on"), _MOVE_LAST.format(nodes="barred_on")
_ASKED = f"""
    SELECT (SELECT count(DISTINCT a.gpu_id) FROM attempts a
             WHERE a.task_id = t.task_id AND a.outcome = '{Outcome.REJECTED}') AS rejected_by,
           (SELECT count(*) FROM attempts a
             WHERE a.task_id = t.task_id AND a.outcome = '{Outcome.PROTOCOL_ERROR}') AS protocol_errors,
           {eligibility.another_could_take(eligibility.Task.of_row("t"), "t.barred_on")} AS others
      FROM tasks t WHERE t.task_id = %(task_id)s
    """
# A moment in the future says nothing: the clock has been set back since.
_DUE = """
    SELECT CASE WHEN due.since > clock_timestamp() THEN 0
                ELSE extract(epoch FROM due.since + make_interval(secs => due.after_s) - clock_timestamp())::float END
      FROM attempts a JOIN tasks t USING (task_id)
     CROSS JOIN LATERAL (
           SELECT CASE CAST(%(outcome)s AS text) WHEN 'TIMED_OUT' THEN COALESCE(a.accepted_at, a.claimed_at)
                       WHEN 'UNREACHABLE' THEN CASE WHEN a.accepted_at IS NULL THEN a.claimed_at END END AS since,
                  CASE CAST(%(outcome)s AS text) WHEN 'TIMED_OUT' THEN t.timeout_ms / 1000.0
                       ELSE %(window)s END AS after_s
           ) due
     WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s AND a.closed_at IS NULL
    """
DELIVERY_S = 3.0
"""An attempt that was claimed less than this ago has not been tried often enough to be called UNREACHABLE."""


@dataclass(frozen=True)
class _Row:
    status: str
    retry_count: int
    max_retries: int
    end_reason: str | None
    gpu_id: str
    outcome: str | None  # of a closed one
    reason: str | None
    collected_at: datetime | None


async def due_in_s(connection: Connection, task_id: str, attempt: int, outcome: Outcome) -> float | None:
    """Seconds until an open attempt may be closed without a report of its node, 0 or less if at once.

    TIMED_OUT: when the timeout of the task has passed since the node accepted the attempt, or since it was claimed if
    that is not recorded. UNREACHABLE: if no node has accepted it. None (never) for every other outcome, and for an
    attempt that is closed.
    """
    values = {"task_id": task_id, "attempt": attempt, "outcome": outcome, "window": DELIVERY_S}
    return await connection.one_or_none(float, _DUE, values)


async def complete(connection: Connection, task_id: str, attempt: int) -> Collected | None:
    """`collect` for an attempt that has succeeded, in one statement; None, and nothing is done, for any other."""
    if await task_transitions.complete_and_collect(connection, task_id, attempt, SystemActor.WORKFLOW):
        return Collected(Outcome.SUCCEEDED, TaskStatus.COMPLETED)
    return None


async def collect(
    connection: Connection, task_id: str, attempt: int, *, actor: str = SystemActor.WORKFLOW
) -> Collected:
    """Write the task's transition for a closed attempt. Repeating it changes nothing and answers the same.

    An attempt without a row (the database is a restored copy) counts as open; a task without one has failed.
    """
    key = {"task_id": task_id, "attempt": attempt}
    row = await connection.one_or_none(_Row, _LOCK, key)
    if row is None:
        known = await connection.one_or_none(str, _STATUS, {"task_id": task_id})
        return Collected(None, TaskStatus(known or TaskStatus.FAILED))
    status = TaskStatus(row.status)
    if row.outcome is None:
        return Collected(None, status)
    outcome = Outcome(row.outcome)
    if row.collected_at is not None or status in TERMINAL:
        pause = backoff_s(row.retry_count) if outcome in USES_RETRY and status not in TERMINAL else 0.0
        return Collected(outcome, status, pause, cancelled=row.end_reason == EndReason.CANCELLED)
    history = await _history(connection, task_id, row, outcome)
    verdict = judge(outcome, retry_count=row.retry_count, max_retries=row.max_retries, history=history)
    cause = Cause(task_id, attempt, row.gpu_id, actor, _reason(row.reason, outcome, verdict, history))
    await _move(connection, cause, status, outcome, verdict)
    await connection.execute(_COLLECTED, key)
    return Collected(outcome, verdict.status, verdict.pause_s)


async def note(connection: Connection, task_id: str, attempt: int) -> None:
    """Record that an attempt needs no collecting: its task ends with it."""
    await connection.execute(_COLLECTED, {"task_id": task_id, "attempt": attempt})


def _end_reason(outcome: Outcome, verdict: RetryDecision) -> EndReason | None:
    if verdict.status is not TaskStatus.FAILED:
        return None
    if verdict.given_up:
        return EndReason.POISON
    return EndReason.REJECTED if outcome is Outcome.REJECTED else None


async def _history(connection: Connection, task_id: str, row: _Row, outcome: Outcome) -> History:
    if outcome in USES_RETRY:
        last = Failure(row.gpu_id, outcome, row.reason)
        return History(failed_alike_on=len(failed_alike_on(await failures.failures(connection, task_id), last)))
    if outcome in ASKS_ANOTHER:
        await connection.execute(_BAR, {"task_id": task_id, "gpu_id": row.gpu_id})
        asked = {"task_id": task_id, "strict": connection.policy.vip_nodes_strict}
        return await connection.one(History, _ASKED, asked)
    return History()


def _reason(reason: str | None, outcome: Outcome, verdict: RetryDecision, history: History) -> str | None:
    """The node's message, and why the task ended with it."""
    if verdict.given_up:
        return f"{reason or ''}（已在{history.failed_alike_on}个节点上以同样的方式失败，不再重试）"
    if verdict.status is not TaskStatus.FAILED:
        return reason
    if outcome is Outcome.REJECTED and history.rejected_by > 1:
        return f"{reason or ''}（已有{history.rejected_by}个节点拒绝）"
    if outcome is Outcome.PROTOCOL_ERROR:
        return f"{reason or ''}（已发生{history.protocol_errors}次，不再派发）"
    return reason


async def _move(
    connection: Connection, cause: Cause, status: TaskStatus, outcome: Outcome, verdict: RetryDecision
) -> None:
    if outcome is Outcome.SUCCEEDED:
        if not await task_transitions.complete(connection, cause):
            raise LookupError(f"{cause['task_id']}-{cause['attempt']} has succeeded, and its result is not there")
        return
    if outcome in USES_RETRY or outcome is Outcome.UNREACHABLE:
        await connection.execute(_AVOID, cause)
    if verdict.status in TERMINAL:
        await task_transitions.end(connection, status, verdict.status, cause, _end_reason(outcome, verdict))
    elif outcome not in REQUEUES:
        await task_transitions.requeue(connection, cause, verdict.retry_count)

"""Settling: an open attempt is closed, and its slot goes to the best waiting task.

Whoever commits first settles an attempt: the node's report, the deadline, a lost or faulty node, a deregistration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from infra.db import clock, locks
from infra.db.attempts import failures
from infra.db.attempts.queries import open_on
from infra.db.connection import Connection
from infra.db.nodes import records as node_records
from infra.db.nodes.records import Recorded
from infra.db.queue import order
from infra.db.slots import assign
from infra.db.tasks import transitions as task_transitions
from infra.db.tasks.transitions import Cause
from workflows.domain import node_record
from workflows.domain.attempt import NODE_STILL_RUNS_IT, REQUEUES, RULES, USES_RETRY, End, ForTask, Outcome
from workflows.domain.fault_attribution import Failure, is_nodes_failure
from workflows.notifications import ClosedAttempt, Notifications

# The node's row first, then the attempt's (see `locks`).
_LOCK = f"""
    SELECT a.task_id, a.attempt, a.gpu_id, a.accepted_at, a.closed_at, g.epoch, g.status, {node_records.COLUMNS},
           t.task_type, t.timeout_ms, {order.flow("t")} AS flow,
           NOT COALESCE(a.claimed_at < g.not_before AND {clock.possible_rest("g.not_before")}, false) AS since_rest
      FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id JOIN tasks t ON t.task_id = a.task_id
     WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s FOR UPDATE OF g, a
    """
_CLOSE = """
    WITH kept AS (
        INSERT INTO task_results (task_id, attempt, gpu_id, result)
        SELECT %(task_id)s, %(attempt)s, %(gpu_id)s, %(result)s WHERE CAST(%(result)s AS text) IS NOT NULL)
    UPDATE attempts SET closed_at = clock_timestamp(), outcome = %(outcome)s, reason = %(reason)s,
           blamed = %(attributed)s, released_at = CASE WHEN NOT %(held)s THEN clock_timestamp() END
     WHERE task_id = %(task_id)s AND attempt = %(attempt)s
    """
_RAN = frozenset({ForTask.COMPLETES, ForTask.RETRIES})
_NEVER_ACCEPTED = frozenset({Outcome.UNREACHABLE, Outcome.PROTOCOL_ERROR})


class SettleResult(Enum):
    """The results of `settle`."""

    SETTLED = auto()
    CLOSED_BEFORE = auto()  # or there is no such attempt
    ACCEPTED = auto()  # the node has accepted it, and this end is only for one that it has not accepted
    NODE_CHANGED = auto()


@dataclass(frozen=True)
class Settled:
    """The result of `settle`, and the workflows to notify; none unless the attempt is SETTLED."""

    answer: SettleResult
    notifications: Notifications = field(default_factory=Notifications)


@dataclass(frozen=True, kw_only=True)
class _Row(Recorded):
    task_id: str
    attempt: int
    gpu_id: str
    accepted_at: datetime | None
    closed_at: datetime | None
    epoch: int
    status: str  # of the node
    task_type: int
    timeout_ms: int
    flow: str
    since_rest: bool


async def settle(
    connection: Connection,
    task_id: str,
    attempt: int,
    end: End,
    *,
    actor: str,
    node_is: tuple[str, int] | None = None,
    unless_accepted: bool = False,
) -> Settled:
    """Close an open attempt, free its slot and assign it.

    Where its node may still run it (`NODE_STILL_RUNS_IT`) the slot is held until that is over (`release_attempt`).

    An outcome that leaves nothing to decide puts the task back to QUEUED here. The task's workflow, which is to be
    notified, collects the others. With `node_is` (status, epoch) nothing happens if the node has changed since the
    caller looked, with `unless_accepted` if the node has accepted the attempt.
    """
    release = await locks.releasing_attempt(connection, task_id, attempt)
    row = await connection.one_or_none(_Row, _LOCK, {"task_id": task_id, "attempt": attempt})
    if release is None or row is None or row.closed_at is not None:
        return Settled(SettleResult.CLOSED_BEFORE)
    if row.accepted_at is not None and (unless_accepted or end.outcome in _NEVER_ACCEPTED):
        return Settled(SettleResult.ACCEPTED)
    if node_is is not None and node_is != (row.status, row.epoch):
        return Settled(SettleResult.NODE_CHANGED)
    await _close(connection, row, end, actor)
    grants = [] if end.outcome in NODE_STILL_RUNS_IT else await assign.assign_released(connection, release)
    return Settled(SettleResult.SETTLED, Notifications(grants=grants, closed=[ClosedAttempt(task_id, attempt)]))


async def _close(connection: Connection, row: _Row, end: End, actor: str) -> None:
    """Record the end, and what it means for the task and for the node."""
    outcome, reason = end.outcome, end.reason
    in_time = outcome is not Outcome.TIMED_OUT or await failures.limit_has_room(
        connection, row.task_type, row.timeout_ms
    )
    if not in_time:
        reason = f"{reason or ''}（时限{row.timeout_ms}毫秒对该类型任务过短）"
    attributed = (
        in_time
        and outcome in USES_RETRY
        and is_nodes_failure(await failures.failures(connection, row.task_id), Failure(row.gpu_id, outcome, reason))
    )
    cause = Cause(row.task_id, row.attempt, row.gpu_id, actor, reason)
    closing = {
        "outcome": outcome,
        "result": end.result,
        "attributed": attributed,
        "held": outcome in NODE_STILL_RUNS_IT,
    }
    await connection.execute(_CLOSE, cause | closing)
    if outcome in REQUEUES:
        await task_transitions.requeue(connection, cause)
    elif RULES[outcome].task in _RAN and row.accepted_at is None:
        await task_transitions.start(connection, cause, end.ran_s)  # the report itself proves that the node ran it
    now, rest = node_record.after(
        row.record, outcome, task_id=row.task_id, flow=row.flow, attributed=attributed, since_rest=row.since_rest
    )
    await node_records.write(connection, row.gpu_id, row.record, now, rest)
    if rest is not None and (rest.alerts or end.needs_people):
        await node_records.raise_rest_alert(connection, row.gpu_id, rest, reason)


async def close_open(connection: Connection, gpu_id: str, end: End, *, actor: str) -> Notifications:
    """Settle every open attempt of a node with the same end."""
    notifications = Notifications()
    for row in await open_on(connection, gpu_id):
        settled = await settle(connection, row.task_id, row.attempt, end, actor=actor)
        notifications.add(settled.notifications)
    return notifications

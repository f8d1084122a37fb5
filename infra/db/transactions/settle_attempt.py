"""Attempts: finding them, starting them, and the one helper that settles them.

Whoever commits first settles an attempt: the node's report, the deadline, a lost or faulty node, a
deregistration. `settle` locks it and returns if it is closed already.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

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
from infra.temporal.notifications import ClosedAttempt, Notifications
from workflows.domain import node_record
from workflows.domain.attempt import ASKS_ANOTHER, REQUEUES, USES_RETRY, Outcome
from workflows.domain.fault_attribution import Failure, is_nodes_failure
from workflows.domain.node_record import Rest

# The node's row first, then the attempt's (see `claim_slot`).
_LOCK = (
    f"SELECT a.gpu_id, a.accepted_at, a.closed_at, g.epoch, g.status, {node_records.COLUMNS},"
    f" t.task_type, t.timeout_ms, {order.FLOW.format(task='t')} AS flow,"
    f" NOT COALESCE(a.claimed_at < g.not_before AND {clock.possible_rest('g.not_before')}, false) AS since_rest"
    " FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id JOIN tasks t ON t.task_id = a.task_id"
    " WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s FOR UPDATE OF g, a"
)
_CLOSE = """
    WITH kept AS (
        INSERT INTO task_results (task_id, attempt, gpu_id, result)
        SELECT %(task_id)s, %(attempt)s, %(gpu_id)s, %(result)s WHERE CAST(%(result)s AS text) IS NOT NULL)
    UPDATE attempts SET closed_at = clock_timestamp(), outcome = %(outcome)s, reason = %(reason)s, blamed = %(blamed)s
     WHERE task_id = %(task_id)s AND attempt = %(attempt)s
    """
_NEVER_ACCEPTED = frozenset({Outcome.UNREACHABLE, Outcome.PROTOCOL_ERROR})


@dataclass(frozen=True)
class _Row(Recorded):
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
    outcome: Outcome,
    *,
    actor: str,
    reason: str | None = None,
    result: str | None = None,
    node_is: tuple[str, int] | None = None,
    ran_s: float = 0.0,
    needs_people: bool = False,
) -> Notifications | None:
    """Close an open attempt, free its slot and hand it over. None if it was closed already.

    An outcome that leaves nothing to decide puts the task back to QUEUED here. The task's workflow, which is to be
    signalled, collects the others. UNREACHABLE and PROTOCOL_ERROR close nothing that the node has accepted, SUCCEEDED
    nothing without a result. With `node_is` (status, epoch) nothing happens if the node has changed since the caller
    looked. `ran_s`: for how long the node has run it, if its acceptance is not recorded. `needs_people`: the node
    itself says that it will not get well alone.
    """
    if (outcome is Outcome.SUCCEEDED) != (result is not None):
        raise ValueError(f"{outcome} {'without' if result is None else 'with'} a result")
    await locks.release_of_attempt(connection, task_id, attempt)
    key = {"task_id": task_id, "attempt": attempt}
    row = await connection.one_or_none(_Row, _LOCK, key)
    if row is None or row.closed_at is not None or (outcome in _NEVER_ACCEPTED and row.accepted_at is not None):
        return None
    if node_is is not None and node_is != (row.status, row.epoch):
        return None
    notifications = Notifications(closed=[ClosedAttempt(task_id, attempt)])
    in_time = outcome is not Outcome.TIMED_OUT or await failures.limit_has_room(
        connection, row.task_type, row.timeout_ms
    )
    if not in_time:
        reason = f"{reason or ''}（时限{row.timeout_ms}毫秒对该类型任务过短）"
    attributed = (
        in_time
        and outcome in USES_RETRY
        and is_nodes_failure(await failures.failures(connection, task_id), Failure(row.gpu_id, outcome, reason))
    )
    closing = {"gpu_id": row.gpu_id, "outcome": outcome, "reason": reason, "result": result, "blamed": attributed}
    await connection.execute(_CLOSE, key | closing)
    await _move_task(connection, row, outcome, Cause(task_id, attempt, row.gpu_id, actor, reason), ran_s)
    rest = await _record(connection, row, outcome, task_id, attributed=attributed)
    if rest is not None and (rest.alerts or needs_people):
        await node_records.tell(connection, row.gpu_id, rest, reason)
    notifications.grants += await assign.assign(connection, row.gpu_id)
    return notifications


async def _move_task(connection: Connection, row: _Row, outcome: Outcome, cause: Cause, ran_s: float) -> None:
    if outcome in REQUEUES:
        await task_transitions.requeue(connection, cause)
    elif outcome not in ASKS_ANOTHER and row.accepted_at is None:
        await task_transitions.start(connection, cause, ran_s)  # the report itself proves that the node ran it


async def _record(
    connection: Connection, row: _Row, outcome: Outcome, task_id: str, *, attributed: bool
) -> Rest | None:
    """Write what the outcome means for the node; the rest that begins."""
    now, rest = node_record.after(
        row.record, outcome, task_id=task_id, flow=row.flow, attributed=attributed, since_rest=row.since_rest
    )
    await node_records.write(connection, row.gpu_id, row.record, now, rest)
    return rest


async def close_open(
    connection: Connection, gpu_id: str, outcome: Outcome, *, actor: str, reason: str
) -> Notifications:
    """Settle every open attempt of a node with the same outcome."""
    notifications = Notifications()
    for row in await open_on(connection, gpu_id):
        settled = await settle(connection, row.task_id, row.attempt, outcome, actor=actor, reason=reason)
        if settled is not None:
            notifications.add(settled)
    return notifications

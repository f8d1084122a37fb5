"""Attempts: finding them, starting them, and the one helper that settles them.

Whoever commits first settles an attempt: the node's report, the deadline, a lost or faulty node, a
deregistration. `settle` locks it and returns if it is closed already.
"""

from __future__ import annotations

from sqlalchemy import text

from infra.db import clock, edges, failures, handover, locks, node_records, queue
from infra.db.connection import Connection, Row
from infra.db.edges import Cause
from infra.db.notifications import ClosedAttempt, Notifications
from workflows.domain import node_record
from workflows.domain.attempt import ASKS_ANOTHER, REQUEUES, USES_RETRY, Outcome
from workflows.domain.fault_attribution import Failure, is_nodes_failure
from workflows.domain.node_record import Rest

# The node's row first, then the attempt's (see `claims`).
_LOCK = text(
    f"SELECT a.gpu_id, a.accepted_at, a.closed_at, g.epoch, g.status, {node_records.COLUMNS},"
    f" t.task_type, t.timeout_ms, {queue.FLOW.format(task='t')} AS flow,"
    f" NOT COALESCE(a.claimed_at < g.not_before AND {clock.possible_rest('g.not_before')}, false) AS since_rest"
    " FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id JOIN tasks t ON t.task_id = a.task_id"
    " WHERE a.task_id = :task_id AND a.attempt = :attempt FOR UPDATE OF g, a"
)
_CLOSE = text(
    """
    WITH kept AS (
        INSERT INTO task_results (task_id, attempt, gpu_id, result)
        SELECT :task_id, :attempt, :gpu_id, CAST(:result AS text) WHERE CAST(:result AS text) IS NOT NULL)
    UPDATE attempts SET closed_at = clock_timestamp(), outcome = :outcome, reason = :reason, blamed = :blamed
     WHERE task_id = :task_id AND attempt = :attempt
    """
)
# Skipped where somebody holds the node's row: waiting for it while an attempt is held could block both for good.
_REACHED_IF_FREE = text(
    "UPDATE gpus SET failure_count = 0, not_before = CASE WHEN rests > 0 OR hand_backs > 0 THEN not_before END"
    " WHERE gpu_id = (SELECT gpu_id FROM gpus WHERE gpu_id = :gpu_id FOR UPDATE SKIP LOCKED)"
)
_PROGRESS = text(
    "UPDATE attempts SET progress = :progress, progress_at = clock_timestamp()"
    " WHERE task_id = :task_id AND attempt = :attempt AND closed_at IS NULL"
)
_OPEN_ON = text(
    "SELECT task_id, attempt, gpu_epoch, slot, ip, port FROM attempts WHERE gpu_id = :gpu_id AND closed_at IS NULL"
)
_KEEP_LATE = text(
    """
    INSERT INTO late_reports (task_id, attempt, kind, body)
    SELECT :task_id, CAST(:attempt AS integer), CAST(:kind AS text), :body
     WHERE NOT EXISTS (SELECT FROM late_reports WHERE task_id = :task_id AND kind = CAST(:kind AS text)
                          AND attempt IS NOT DISTINCT FROM CAST(:attempt AS integer))
    """
)
LATE_BYTES = 64 * 1024
_NEVER_ACCEPTED = frozenset({Outcome.UNREACHABLE, Outcome.PROTOCOL_ERROR})
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


async def accept(connection: Connection, task_id: str, attempt: int, *, actor: str) -> bool:
    """The node runs the attempt: the task is PROCESSING from now on. False if the attempt is closed.

    One statement as a rule; needs no transaction.
    """
    row = await edges.accept(connection, task_id, attempt, actor)
    if row is None:
        return False
    if row.was_away:
        await connection.execute(_REACHED_IF_FREE, {"gpu_id": row.gpu_id})
    return True


async def record_progress(connection: Connection, task_id: str, attempt: int, progress: int) -> None:
    """Keep the node's own progress (percent) of an open attempt."""
    await connection.execute(_PROGRESS, {"task_id": task_id, "attempt": attempt, "progress": progress})


async def keep_late(connection: Connection, task_id: str, attempt: int | None, kind: str, body: str) -> None:
    """Keep a report that came too late, for inspection: the first of each attempt and kind, up to LATE_BYTES of it.

    `attempt` is None where it is not known which one was meant.
    """
    kept = body.encode()[:LATE_BYTES].decode(errors="ignore")
    await locks.late_reports(connection, task_id)
    await connection.execute(_KEEP_LATE, {"task_id": task_id, "attempt": attempt, "kind": kind, "body": kept})


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
    row = (await connection.execute(_LOCK, key)).one_or_none()
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
    notifications.grants += await handover.hand_over(connection, row.gpu_id)
    return notifications


async def _move_task(connection: Connection, row: Row, outcome: Outcome, cause: Cause, ran_s: float) -> None:
    if outcome in REQUEUES:
        await edges.requeue(connection, cause)
    elif outcome not in ASKS_ANOTHER and row.accepted_at is None:
        await edges.start(connection, cause, ran_s)  # the report itself proves that the node ran it


async def _record(connection: Connection, row: Row, outcome: Outcome, task_id: str, *, attributed: bool) -> Rest | None:
    """Write what the outcome means for the node; the rest that begins."""
    before = node_records.of(row)
    now, rest = node_record.after(
        before, outcome, task_id=task_id, flow=row.flow, attributed=attributed, since_rest=row.since_rest
    )
    await node_records.write(connection, row.gpu_id, before, now, rest)
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


async def open_on(connection: Connection, gpu_id: str) -> list[Row]:
    """The open attempts of a node: task_id, attempt, gpu_epoch, slot, ip, port."""
    return list((await connection.execute(_OPEN_ON, {"gpu_id": gpu_id})).all())

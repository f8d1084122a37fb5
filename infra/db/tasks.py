"""Tasks: creating and reading them. Edges stand in `edges`, slots in `claims`, attempts in `attempts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from infra.db import audit, claims, counters, queue
from infra.db.audit import Action
from infra.db.capacity import Capacity
from infra.db.connection import Connection, Row
from infra.db.keys import Caller
from infra.db.queue import Place
from workflows.domain import queueing
from workflows.domain.errors import IdempotencyConflict, TooManyWaiting
from workflows.domain.task import TaskStatus

_USER_LOCK = 7105  # first key of the advisory locks of users; taken before any other lock
LAST = 2**62  # after every display id
ESTIMATE_COUNTS = 2_000
"""A new task's estimate counts at most so many ahead per type and class: creating costs the same at any length."""


@dataclass(frozen=True)
class NewTask:
    """What a caller asks for, with the limits of its type filled in."""

    task_id: str
    task_type: int
    user_id: str
    app: str
    priority: int
    queue_class: int
    payload: str
    env: str | None
    timeout_ms: int
    max_retries: int
    traceparent: str | None
    lineage: str
    idempotency_key: str | None
    request_hash: str | None


@dataclass(frozen=True)
class Created:
    """A new task's row, or the earlier one of the same request."""

    row: Row
    is_new: bool
    waits_briefly: bool = False  # no slot is free for it, and one should be soon


_CREATE = text(
    """
    WITH created AS (
        INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, env, timeout_ms,
                           max_retries, traceparent, lineage, idempotency_key, request_hash, estimated_wait_s,
                           queue_rank, waiting_since, event_seq)
        VALUES (:task_id, :task_type, 'QUEUED', :user_id, :app, :priority, :queue_class, :payload, :env, :timeout_ms,
                :max_retries, :traceparent, :lineage, :idempotency_key, :request_hash, :estimated_wait_s,
                :rank, clock_timestamp(), 1)
            ON CONFLICT (lineage, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
     RETURNING task_id, display_id, status, estimated_wait_s),
    event AS (
        INSERT INTO task_events (task_id, seq, to_status, actor) SELECT task_id, 1, 'QUEUED', :actor FROM created),
    audit AS (
        INSERT INTO audit_log (key_id, owner, role, action, subject, detail, outcome)
        SELECT :key_id, :owner, :role, :action, task_id, :detail, :outcome FROM created)
    SELECT task_id, display_id, status, estimated_wait_s FROM created
    """
)
_SEEN = text(
    "SELECT task_id, display_id, status, estimated_wait_s, request_hash FROM tasks"
    " WHERE lineage = :lineage AND idempotency_key = :idempotency_key"
)
_COLUMNS = """
    t.task_id, t.display_id, t.task_type, t.status, t.user_id, t.app, t.priority, t.gpu_id, t.payload,
    CASE WHEN t.status = 'COMPLETED' THEN r.result END AS result, t.error_message, t.retry_count, t.max_retries,
    t.timeout_ms, t.estimated_wait_s, t.created_at, t.started_at, t.completed_at, t.updated_at,
    t.lineage
"""
_GET = text(f"SELECT {_COLUMNS} FROM tasks t LEFT JOIN task_results r USING (task_id) WHERE t.task_id = :task_id")
_FILTERS = {
    "status": "t.status = :status",
    "task_type": "t.task_type = :task_type",
    "gpu_id": "t.gpu_id = :gpu_id",
    "user_id": "t.user_id = :user_id",
}
_PROGRESS = text(
    """
    SELECT t.task_id, t.display_id, t.status, t.user_id, t.lineage, t.gpu_id, t.task_type, t.queue_class, t.queue_rank,
           t.started_at, t.updated_at, t.waiting_since, t.queue_class > 0 AND t.promoted_at IS NULL AS vip, a.attempt,
           a.progress, a.progress_at, clock_timestamp() AS now
      FROM tasks t
      LEFT JOIN attempts a ON a.task_id = t.task_id AND a.closed_at IS NULL
     WHERE t.task_id = :task_id
    """
)
_LOCK_USER = text("SELECT pg_advisory_xact_lock(:lock, hashtext(:user_id))")  # so that no two pass the cap at once
_EVENTS = text("SELECT * FROM task_events WHERE task_id = :task_id ORDER BY seq")


async def create(
    connection: Connection,
    task: NewTask,
    capacity: Capacity,
    *,
    weight: float,
    by: Caller,
    strict_vip: bool,
    max_waiting: int | None = None,
) -> Created:
    """Write the row, which is also the outbox entry, with its place in the queue and its entry in the audit log.

    Raises IdempotencyConflict where the key was seen with another body, TooManyWaiting where `max_waiting` tasks of
    the same user are QUEUED.
    """
    if max_waiting is not None:
        await connection.execute(_LOCK_USER, {"lock": _USER_LOCK, "user_id": task.user_id})
        if task.idempotency_key is not None and (seen := await _seen(connection, task)) is not None:
            return Created(seen, is_new=False)
        if await counters.tasks_matching(connection, user_id=task.user_id, status=TaskStatus.QUEUED) >= max_waiting:
            raise TooManyWaiting
    waits = capacity.turns_over_within(claims.FIRST_LOOK_S) and await claims.waits(
        connection, task.task_type, vip=task.queue_class > 0, strict_vip=strict_vip
    )
    rank = await queue.join(connection, task.task_type, task.queue_class, task.app, weight, capacity.pool)
    place = Place(task.queue_class, rank, LAST)
    ahead = await queue.ahead(connection, place, capacity.pool, limit=ESTIMATE_COUNTS)
    if ahead >= ESTIMATE_COUNTS:
        ahead = max(ahead, await counters.unfinished(connection, task.task_type) - len(capacity.remaining_s))
    values = {
        **task.__dict__,
        "rank": rank,
        "estimated_wait_s": expected_wait_s(ahead, capacity),
        "actor": f"key:{by.key_id}",
        **audit.values(by, Action.TASK_CREATE, task.task_id, f"type {task.task_type}, user {task.user_id}"),
    }
    row = (await connection.execute(_CREATE, values)).one_or_none()
    if row is not None:
        return Created(row, is_new=True, waits_briefly=waits and row.estimated_wait_s < claims.FIRST_LOOK_S)
    seen = await _seen(connection, task)
    assert seen is not None  # nothing else conflicts, and no task is ever removed
    return Created(seen, is_new=False)


async def _seen(connection: Connection, task: NewTask) -> Row | None:
    """The task that the same caller's Idempotency-Key made before. Raises IdempotencyConflict."""
    key = {"lineage": task.lineage, "idempotency_key": task.idempotency_key}
    row = (await connection.execute(_SEEN, key)).one_or_none()
    if row is not None and row.request_hash != task.request_hash:
        raise IdempotencyConflict
    return row


def expected_wait_s(ahead: int, capacity: Capacity) -> int:
    """`estimatedWaitTime` of a task with so many others before it, in seconds."""
    return round(queueing.wait_s(ahead, capacity.nodes.slots, capacity.remaining_s, capacity.usual_s))


async def get(connection: Connection, task_id: str) -> Row | None:
    """One task with its result, or None."""
    return (await connection.execute(_GET, {"task_id": task_id})).one_or_none()


async def page(
    connection: Connection, filters: dict[str, Any], *, limit: int, offset: int
) -> tuple[Sequence[Row], int]:
    """One page of tasks, the newest first, and how many there are in all (a kept count).

    `filters`: status, task_type, gpu_id, user_id. The page's ids come from an index alone, its rows by their ids.
    """
    conditions = " AND ".join(_FILTERS[name] for name in filters) or "true"
    rows = await connection.execute(
        text(
            f"""
            SELECT {_COLUMNS}
              FROM (SELECT t.display_id FROM tasks t WHERE {conditions}
                     ORDER BY t.display_id DESC LIMIT :limit OFFSET :offset) page
              JOIN tasks t USING (display_id)
              LEFT JOIN task_results r USING (task_id)
             ORDER BY t.display_id DESC
            """
        ),
        filters | {"limit": limit, "offset": offset},
    )
    return rows.all(), await counters.tasks_matching(connection, **filters)


async def progress(connection: Connection, task_id: str) -> Row | None:
    """What `GET /tasks/{taskId}/progress` is made of."""
    return (await connection.execute(_PROGRESS, {"task_id": task_id})).one_or_none()


async def events(connection: Connection, task_id: str) -> Sequence[Row]:
    """The task's timeline, in order."""
    return (await connection.execute(_EVENTS, {"task_id": task_id})).all()

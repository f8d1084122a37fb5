"""Tasks: creating and reading them. Edges stand in `edges`, slots in `claims`, attempts in `attempts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db import counters, queue
from infra.db.capacity import Capacity
from infra.db.queue import Place
from workflows.domain import queueing
from workflows.domain.errors import IdempotencyConflict

AnyRow = Row[tuple[object, ...]]

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
    key_id: str
    idempotency_key: str | None
    request_hash: str | None


_CREATE = text(
    """
    WITH created AS (
        INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, env, timeout_ms,
                           max_retries, traceparent, key_id, idempotency_key, request_hash, estimated_wait_s,
                           queue_rank, waiting_since, event_seq)
        VALUES (:task_id, :task_type, 'QUEUED', :user_id, :app, :priority, :queue_class, :payload, :env, :timeout_ms,
                :max_retries, :traceparent, :key_id, :idempotency_key, :request_hash, :estimated_wait_s,
                :rank, clock_timestamp(), 1)
            ON CONFLICT (key_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
     RETURNING task_id, display_id, status, estimated_wait_s),
    event AS (
        INSERT INTO task_events (task_id, seq, to_status, actor) SELECT task_id, 1, 'QUEUED', :actor FROM created)
    SELECT task_id, display_id, status, estimated_wait_s FROM created
    """
)
_SEEN = text(
    "SELECT task_id, display_id, status, estimated_wait_s, request_hash FROM tasks"
    " WHERE key_id = :key_id AND idempotency_key = :idempotency_key"
)
_COLUMNS = """
    t.task_id, t.display_id, t.task_type, t.status, t.user_id, t.app, t.priority, t.gpu_id, t.payload,
    CASE WHEN t.status = 'COMPLETED' THEN r.result END AS result, t.error_message, t.retry_count, t.max_retries,
    t.timeout_ms, t.estimated_wait_s, t.created_at, t.started_at, t.completed_at, t.updated_at
"""
_GET = text(f"SELECT {_COLUMNS} FROM tasks t LEFT JOIN task_results r USING (task_id) WHERE t.task_id = :task_id")
_FILTERS = {"status": "t.status = :status", "task_type": "t.task_type = :task_type", "gpu_id": "t.gpu_id = :gpu_id"}
_PROGRESS = text(
    """
    SELECT t.task_id, t.display_id, t.status, t.gpu_id, t.task_type, t.queue_class, t.queue_rank, t.started_at,
           t.updated_at, t.waiting_since, t.queue_class > 0 AND t.promoted_at IS NULL AS vip, a.attempt, a.progress,
           a.progress_at, clock_timestamp() AS now
      FROM tasks t
      LEFT JOIN attempts a ON a.task_id = t.task_id AND a.closed_at IS NULL
     WHERE t.task_id = :task_id
    """
)
_EVENTS = text("SELECT * FROM task_events WHERE task_id = :task_id ORDER BY seq")


async def create(
    connection: AsyncConnection, task: NewTask, capacity: Capacity, *, weight: float, actor: str
) -> tuple[AnyRow, bool]:
    """Write the row, which is also the outbox entry, with its place in the queue.

    (row, True), or the earlier (row, False) of the same request. Raises IdempotencyConflict where the key
    was seen with another body.
    """
    rank = await queue.join(connection, task.task_type, task.queue_class, task.app, weight, capacity.pool)
    place = Place(task.queue_class, rank, LAST)
    ahead = await queue.ahead(connection, place, capacity.pool, limit=ESTIMATE_COUNTS)
    if ahead >= ESTIMATE_COUNTS:
        ahead = max(ahead, await counters.unfinished(connection, task.task_type) - len(capacity.remaining_s))
    values = {
        **task.__dict__,
        "rank": rank,
        "estimated_wait_s": expected_wait_s(ahead, capacity),
        "actor": actor,
    }
    row = (await connection.execute(_CREATE, values)).one_or_none()
    if row is not None:
        return row, True
    seen = (await connection.execute(_SEEN, {"key_id": task.key_id, "idempotency_key": task.idempotency_key})).one()
    if seen.request_hash != task.request_hash:
        raise IdempotencyConflict
    return seen, False


def expected_wait_s(ahead: int, capacity: Capacity) -> int:
    """`estimatedWaitTime` of a task with so many others before it, in seconds."""
    return round(queueing.wait_s(ahead, capacity.nodes.slots, capacity.remaining_s, capacity.usual_s))


async def get(connection: AsyncConnection, task_id: str) -> AnyRow | None:
    """One task with its result, or None."""
    return (await connection.execute(_GET, {"task_id": task_id})).one_or_none()


async def page(
    connection: AsyncConnection, filters: dict[str, Any], *, limit: int, offset: int
) -> tuple[Sequence[AnyRow], int]:
    """One page of tasks, the newest first, and how many there are in all (a kept count).

    `filters`: status, task_type, gpu_id. The page's ids come from an index alone, its rows by their ids.
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


async def progress(connection: AsyncConnection, task_id: str) -> AnyRow | None:
    """What `GET /tasks/{taskId}/progress` is made of."""
    return (await connection.execute(_PROGRESS, {"task_id": task_id})).one_or_none()


async def events(connection: AsyncConnection, task_id: str) -> Sequence[AnyRow]:
    """The task's timeline, in order."""
    return (await connection.execute(_EVENTS, {"task_id": task_id})).all()

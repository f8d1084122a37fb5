"""Tasks: creating and reading them. Edges stand in `edges`, slots in `claims`, attempts in `attempts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows.domain.errors import IdempotencyConflict

AnyRow = Row[tuple[object, ...]]

DEFAULT_DURATION_MS = 60_000.0  # of a type that has never finished a task


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
                           max_retries, traceparent, key_id, idempotency_key, request_hash, estimated_wait_s, event_seq)
        VALUES (:task_id, :task_type, 'QUEUED', :user_id, :app, :priority, :queue_class, :payload, :env, :timeout_ms,
                :max_retries, :traceparent, :key_id, :idempotency_key, :request_hash, :estimated_wait_s, 1)
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
# The work ahead (waiting tasks of this type in the class or above) over the slots that could take it.
_ESTIMATE = text(
    """
    SELECT COALESCE((SELECT mean_ms FROM type_durations WHERE task_type = :task_type), :default_ms) AS mean_ms,
           (SELECT count(*) FROM (SELECT FROM tasks WHERE task_type = :task_type AND waiting_since IS NOT NULL
               AND queue_class >= :queue_class LIMIT 10000) ahead) AS ahead,
           COALESCE(sum(g.max_concurrent_tasks), 0) AS slots,
           COALESCE(sum((SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL)), 0) AS busy
      FROM gpus g WHERE g.task_types @> ARRAY[CAST(:task_type AS bigint)] AND g.status = 'ACTIVE' AND g.gone_at IS NULL
    """
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
    SELECT t.task_id, t.status, t.gpu_id, t.task_type, t.queue_class, t.started_at, t.updated_at, t.waiting_since,
           a.progress, a.progress_at, clock_timestamp() AS now, d.mean_ms,
           CASE WHEN t.status = 'QUEUED' THEN 1 + (
                SELECT count(*) FROM tasks q WHERE q.task_type = t.task_type AND q.waiting_since IS NOT NULL
                   AND (q.queue_class, -q.queue_rank, -q.display_id) > (t.queue_class, -t.queue_rank, -t.display_id))
                ELSE 0 END AS position
      FROM tasks t
      LEFT JOIN attempts a ON a.task_id = t.task_id AND a.closed_at IS NULL
      LEFT JOIN type_durations d ON d.task_type = t.task_type
     WHERE t.task_id = :task_id
    """
)
_EVENTS = text("SELECT * FROM task_events WHERE task_id = :task_id ORDER BY seq")
_WAITING = text(
    """
    SELECT count(*) AS nodes,
           count(*) FILTER (WHERE NOT types_fit) AS other_type,
           count(*) FILTER (WHERE types_fit AND status = 'FAULTY') AS faulty,
           count(*) FILTER (WHERE types_fit AND status = 'OFFLINE') AS offline,
           count(*) FILTER (WHERE types_fit AND status = 'ACTIVE') AS busy
      FROM (SELECT status, g.task_types @> ARRAY[t.task_type] AS types_fit
              FROM gpus g, tasks t WHERE t.task_id = :task_id AND g.gone_at IS NULL) nodes
    """
)


async def estimate_wait_s(connection: AsyncConnection, task_type: int, queue_class: int) -> int:
    """Seconds until a task created now would start, from the work ahead and the usual duration of its type."""
    row = (
        await connection.execute(
            _ESTIMATE, {"task_type": task_type, "queue_class": queue_class, "default_ms": DEFAULT_DURATION_MS}
        )
    ).one()
    if row.slots > row.busy and row.ahead == 0:
        return 0
    return int((row.ahead + 1) * row.mean_ms / 1000 / max(int(row.slots), 1))


async def create(connection: AsyncConnection, task: NewTask, *, actor: str) -> tuple[AnyRow, bool]:
    """Write the row, which is also the outbox entry. (row, True), or the earlier (row, False) of the same request.

    Raises IdempotencyConflict where the key was seen with another body.
    """
    estimate = await estimate_wait_s(connection, task.task_type, task.queue_class)
    values = {**task.__dict__, "estimated_wait_s": estimate, "actor": actor}
    row = (await connection.execute(_CREATE, values)).one_or_none()
    if row is not None:
        return row, True
    seen = (await connection.execute(_SEEN, {"key_id": task.key_id, "idempotency_key": task.idempotency_key})).one()
    if seen.request_hash != task.request_hash:
        raise IdempotencyConflict
    return seen, False


async def get(connection: AsyncConnection, task_id: str) -> AnyRow | None:
    """One task with its result, or None."""
    return (await connection.execute(_GET, {"task_id": task_id})).one_or_none()


async def page(
    connection: AsyncConnection, filters: dict[str, object], *, limit: int, offset: int
) -> tuple[Sequence[AnyRow], int]:
    """One page of tasks, the newest first, and how many there are in all."""
    conditions = " AND ".join(_FILTERS[name] for name in filters) or "true"
    total = (await connection.execute(text(f"SELECT count(*) FROM tasks t WHERE {conditions}"), filters)).scalar_one()
    rows = await connection.execute(
        text(
            f"SELECT {_COLUMNS} FROM tasks t LEFT JOIN task_results r USING (task_id)"
            f" WHERE {conditions} ORDER BY t.display_id DESC LIMIT :limit OFFSET :offset"
        ),
        filters | {"limit": limit, "offset": offset},
    )
    return rows.all(), total


async def progress(connection: AsyncConnection, task_id: str) -> AnyRow | None:
    """What `GET /tasks/{taskId}/progress` is made of."""
    return (await connection.execute(_PROGRESS, {"task_id": task_id})).one_or_none()


async def events(connection: AsyncConnection, task_id: str) -> Sequence[AnyRow]:
    """The task's timeline, in order."""
    return (await connection.execute(_EVENTS, {"task_id": task_id})).all()


async def explain_waiting(connection: AsyncConnection, task_id: str) -> str:
    """Why a task waits, for people: "12 nodes: 7 other type, 3 full, 2 faulty"."""
    row = (await connection.execute(_WAITING, {"task_id": task_id})).one()
    if row.nodes == 0:
        return "no node is registered"
    parts = [
        f"{count} {word}"
        for count, word in (
            (row.other_type, "other type"),
            (row.busy, "full"),
            (row.faulty, "faulty"),
            (row.offline, "offline"),
        )
        if count
    ]
    return f"{row.nodes} nodes: " + ", ".join(parts)

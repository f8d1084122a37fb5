"""Reading tasks. They come to be in `creation`, move in `edges`; slots stand in `claims`, attempts in `attempts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from infra.db import counters
from infra.db.capacity import Capacity
from infra.db.connection import Connection, Row
from workflows.domain import queueing

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
_EVENTS = text("SELECT * FROM task_events WHERE task_id = :task_id ORDER BY seq")


UNKNOWN_WAIT_S = -1
"""What the column `estimated_wait_s`, which is NOT NULL, holds where the wait is unknown."""


def expected_wait_s(ahead: int, capacity: Capacity) -> int | None:
    """`estimatedWaitTime` of a task with `ahead` others before it, in seconds; None where no ACTIVE node serves it."""
    wait_s = queueing.wait_s(ahead, capacity.nodes.slots, capacity.remaining_s, capacity.usual_s)
    return None if wait_s is None else round(wait_s)


def stored_wait(wait_s: int | None) -> int:
    """The value of `estimated_wait_s` for a wait in seconds."""
    return UNKNOWN_WAIT_S if wait_s is None else wait_s


def told_wait_s(stored: int) -> int | None:
    """The wait in seconds that a value of `estimated_wait_s` means."""
    return None if stored == UNKNOWN_WAIT_S else stored


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

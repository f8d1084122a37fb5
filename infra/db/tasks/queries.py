"""Reading tasks by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection
from infra.db.queue import order as queue_order
from infra.db.tasks.new_task import TaskRequest


@dataclass(frozen=True)
class Task:
    """A task with its result."""

    task_id: str
    display_id: int
    task_type: int
    status: str
    user_id: str
    app: str
    priority: int
    gpu_id: str | None
    error_message: str | None
    retry_count: int
    max_retries: int
    timeout_ms: int
    estimated_wait_s: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime
    end_reason: str | None
    retry_of: str | None
    group_id: str | None
    expires_at: datetime | None
    deadline: datetime | None
    purged: bool
    lineage: str | None
    payload: str | None
    result: str | None


@dataclass(frozen=True)
class Snapshot(Task):
    """A task without payload and result, and the place of its last event in the log, if that is kept."""

    xid: int | None
    id: int | None


@dataclass(frozen=True)
class Owner:
    """A task's owner, and the number of its events."""

    user_id: str
    lineage: str | None
    event_seq: int


@dataclass(frozen=True, kw_only=True)
class Original(TaskRequest):
    """A task as its retry takes it over.

    `expires_at` starts again; a `deadline` that is past is None. `app_granted`: the key that created it was granted the
    app.
    """

    lineage: str | None
    status: str
    purged: bool
    webhook_state: str | None  # null if it is forgotten
    app_granted: bool

    @property
    def granted_apps(self) -> list[str] | None:
        """The app, if the key that created the task was granted it."""
        return [self.app] if self.app_granted else None


@dataclass(frozen=True)
class Progress(queue_order.Ranked):
    """The data of `GET /tasks/{taskId}/progress`; `attempt` and the node's own progress (percent) of the open one.

    While the task is PROCESSING they are those of its latest attempt, also once that is closed.
    """

    task_id: str
    status: str
    user_id: str
    lineage: str | None
    gpu_id: str | None
    task_type: int
    started_at: datetime | None
    updated_at: datetime
    waiting_since: datetime | None
    vip: bool
    barred_on: list[str]
    attempt: int | None
    progress: int | None
    progress_at: datetime | None
    now: datetime


SMALL = """
    t.task_id, t.display_id, t.task_type, t.status, t.user_id, t.app, t.priority, t.gpu_id, t.error_message,
    t.retry_count, t.max_retries, t.timeout_ms, t.estimated_wait_s, t.created_at, t.started_at, t.completed_at,
    t.updated_at, COALESCE(t.end_reason, CASE WHEN t.completed_at IS NOT NULL THEN t.status END) AS end_reason,
    t.retry_of, t.group_id, t.expires_at, t.deadline, t.purged_at IS NOT NULL AS purged, t.lineage
"""
LARGE = """
    CASE WHEN t.purged_at IS NULL THEN t.payload END AS payload,
    CASE WHEN t.purged_at IS NULL AND t.status = 'COMPLETED' THEN r.result END AS result
"""
FROM = "FROM tasks t LEFT JOIN task_results r USING (task_id)"
_GET = f"SELECT {SMALL}, {LARGE} {FROM} WHERE t.task_id = %(task_id)s"
_SNAPSHOT = f"""
    SELECT {SMALL}, NULL AS payload, NULL AS result, e.xid, e.id
      FROM tasks t
      LEFT JOIN LATERAL (
           SELECT xid, id FROM event_log e WHERE e.task_id = t.task_id ORDER BY xid DESC, id DESC LIMIT 1) e ON true
     WHERE t.task_id = %(task_id)s
    """
_TRACE = "SELECT traceparent FROM tasks WHERE task_id = %(task_id)s"
_OWNER = "SELECT user_id, lineage, event_seq FROM tasks WHERE task_id = %(task_id)s"
_OWNERS = "SELECT user_id, lineage, event_seq FROM tasks WHERE task_id = ANY (%(task_ids)s)"
_ORIGINAL = """
    SELECT user_id, lineage, status, task_type, app, priority, payload, purged_at IS NOT NULL AS purged, env,
           timeout_ms, max_retries, flow, group_id, webhook, webhook_id,
           (SELECT state FROM webhooks w WHERE w.webhook_id = t.webhook_id) AS webhook_state,
           clock_timestamp() + (expires_at - created_at) AS expires_at,
           CASE WHEN deadline > clock_timestamp() THEN deadline END AS deadline,
           EXISTS (SELECT FROM key_grants g
                    WHERE g.lineage = t.lineage AND CAST(g.grants AS jsonb) -> 'apps' ? t.app) AS app_granted
      FROM tasks t WHERE task_id = %(task_id)s
    """
_PROGRESS = f"""
    SELECT t.task_id, {queue_order.columns("t")}, t.status, t.user_id, t.lineage, t.gpu_id, t.task_type, t.started_at,
           t.updated_at, t.waiting_since, {queue_order.vip("t")} AS vip, t.barred_on,
           a.attempt, a.progress, a.progress_at, clock_timestamp() AS now
      FROM tasks t
      LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
           AND (a.closed_at IS NULL OR t.status = 'PROCESSING')
     WHERE t.task_id = ANY (CAST(%(task_ids)s AS text[]))
    """


async def get(connection: Connection, task_id: str) -> Task | None:
    """One task with its result, or None."""
    return await connection.one_or_none(Task, _GET, {"task_id": task_id})


async def snapshot(connection: Connection, task_id: str) -> Snapshot | None:
    """One task, and where its events go on, or None."""
    return await connection.one_or_none(Snapshot, _SNAPSHOT, {"task_id": task_id})


async def trace(connection: Connection, task_id: str) -> str | None:
    """A task's `traceparent`, or None."""
    return next(iter(await connection.all(str, _TRACE, {"task_id": task_id})), None)


async def owner(connection: Connection, task_id: str) -> Owner | None:
    """A task's owner and its number of events, or None."""
    return await connection.one_or_none(Owner, _OWNER, {"task_id": task_id})


async def owners(connection: Connection, task_ids: list[str]) -> list[Owner]:
    """The owners of these tasks; unknown tasks are missing."""
    return await connection.all(Owner, _OWNERS, {"task_ids": task_ids})


async def original(connection: Connection, task_id: str) -> Original | None:
    """The fields that a retry of this task takes over, or None."""
    return await connection.one_or_none(Original, _ORIGINAL, {"task_id": task_id})


async def progress(connection: Connection, task_id: str) -> Progress | None:
    """A task's progress, or None."""
    return next(iter(await progress_of_all(connection, [task_id])), None)


async def progress_of_all(connection: Connection, task_ids: Sequence[str]) -> list[Progress]:
    """The progress of these tasks; unknown tasks are missing."""
    return await connection.all(Progress, _PROGRESS, {"task_ids": list(task_ids)})

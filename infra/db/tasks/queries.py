"""Reading tasks: one, or a page of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from infra.db.connection import Connection
from infra.db.ops import counters
from infra.db.slots import eligibility
from infra.db.tasks.filters import PLAN_ANEW, TaskFilter
from workflows.domain.task import TaskStatus


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
class ListedTask(Task):
    """A task in a list: a payload or result that did not fit is None."""

    has_result: bool


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


@dataclass(frozen=True)
class Original:
    """What a retry takes over from the task that it repeats, and whose share of the queue that takes.

    `expires_at` starts again; a `deadline` that is past is None. `app_granted`: the key that created it was granted the
    app.
    """

    user_id: str
    lineage: str | None
    status: str
    task_type: int
    app: str
    priority: int
    payload: str
    purged: bool
    env: str | None
    timeout_ms: int
    max_retries: int
    flow: str | None
    group_id: str | None
    webhook: str | None
    webhook_id: str | None
    webhook_state: str | None  # null if it is forgotten
    expires_at: datetime | None
    deadline: datetime | None
    app_granted: bool

    @property
    def granted_apps(self) -> list[str] | None:
        """The app, if the key that created the task was granted it."""
        return [self.app] if self.app_granted else None


@dataclass(frozen=True)
class Progress:
    """The data of `GET /tasks/{taskId}/progress`; `attempt` and the node's own progress (percent) of the open one."""

    task_id: str
    display_id: int
    status: str
    user_id: str
    lineage: str | None
    gpu_id: str | None
    task_type: int
    queue_class: int
    queue_rank: float
    started_at: datetime | None
    updated_at: datetime
    waiting_since: datetime | None
    vip: bool
    attempt: int | None
    progress: int | None
    progress_at: datetime | None
    now: datetime


_SMALL = """
    t.task_id, t.display_id, t.task_type, t.status, t.user_id, t.app, t.priority, t.gpu_id, t.error_message,
    t.retry_count, t.max_retries, t.timeout_ms, t.estimated_wait_s, t.created_at, t.started_at, t.completed_at,
    t.updated_at, COALESCE(t.end_reason, CASE WHEN t.completed_at IS NOT NULL THEN t.status END) AS end_reason,
    t.retry_of, t.group_id, t.expires_at, t.deadline, t.purged_at IS NOT NULL AS purged, t.lineage
"""
_LARGE = """
    CASE WHEN t.purged_at IS NULL THEN t.payload END AS payload,
    CASE WHEN t.purged_at IS NULL AND t.status = 'COMPLETED' THEN r.result END AS result
"""
_FROM = "FROM tasks t LEFT JOIN task_results r USING (task_id)"
_GET = f"SELECT {_SMALL}, {_LARGE} {_FROM} WHERE t.task_id = %(task_id)s"
_SNAPSHOT = f"""
    SELECT {_SMALL}, NULL AS payload, NULL AS result, e.xid, e.id
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
    SELECT t.task_id, t.display_id, t.status, t.user_id, t.lineage, t.gpu_id, t.task_type, t.queue_class, t.queue_rank,
           t.started_at, t.updated_at, t.waiting_since, {eligibility.VIP.format(task="t")} AS vip, a.attempt,
           a.progress, a.progress_at, clock_timestamp() AS now
      FROM tasks t
      LEFT JOIN attempts a ON a.task_id = t.task_id AND a.closed_at IS NULL
     WHERE t.task_id = ANY (CAST(%(task_ids)s AS text[]))
    """
_LIMIT = "LIMIT %(limit)s OFFSET %(offset)s"
MOST_COUNTED = 10_000
"""The most tasks that a list counts, and shows on all its pages, where no count is kept."""
FAR = 100_000
"""Rows beyond which a page is read from the other end of the list if that is nearer.

The total then says where the page begins. It may change between the two statements, which does not matter that far
back.
"""


class _Choice(NamedTuple):
    """The tasks that a list shows."""

    columns: tuple[str, ...]  # that must be equal
    by_kind: bool  # also, the type and the status are among `:types` and `:statuses`

    @classmethod
    def of(cls, filters: Collection[str]) -> _Choice:
        """Whether one index has the order already: without a filter, and by status alone."""
        if set(filters) <= {"status"}:
            return cls(tuple(filters), by_kind=False)
        return cls(tuple(name for name in ("user_id", "gpu_id") if name in filters), by_kind=True)


def _ids(choice: _Choice, order: str) -> str:
    """The `display_id`s of a page, from one index.

    By kind, each type and status is a stretch of an index, however many other rows there are.
    """
    where = " AND ".join(f"t.{name} = %({name})s" for name in choice.columns) or "true"
    if not choice.by_kind:
        return f"SELECT t.display_id FROM tasks t WHERE {where} ORDER BY t.display_id {order} {_LIMIT}"
    return f"""
        SELECT stretch.display_id
          FROM unnest(CAST(%(types)s AS bigint[])) AS a (task_type)
         CROSS JOIN unnest(CAST(%(statuses)s AS text[])) AS b (status)
         CROSS JOIN LATERAL (
               SELECT t.display_id FROM tasks t WHERE {where} AND t.task_type = a.task_type AND t.status = b.status
                ORDER BY t.display_id {order} LIMIT %(reach)s) stretch
         ORDER BY stretch.display_id {order} {_LIMIT}
    """


def _page(ids: str) -> str:
    """A page of these `display_id`s, the newest first.

    The largest payloads and results are not read until the others fit `room`.
    """
    return f"""
        WITH page AS MATERIALIZED (
            SELECT {_SMALL}, t.purged_at, {_LARGE} {_FROM} WHERE t.display_id = ANY (ARRAY({ids}))),
        sized AS (
            SELECT display_id, field, sum(size) OVER (ORDER BY size, field, display_id) AS together
              FROM page
             CROSS JOIN LATERAL (VALUES ('payload', octet_length(payload)), ('result', octet_length(result)))
                   AS f (field, size)
             WHERE size IS NOT NULL),
        fitting AS (SELECT display_id, array_agg(field) AS fields FROM sized WHERE together <= %(room)s GROUP BY 1)
        SELECT {_SMALL}, CASE WHEN 'payload' = ANY (f.fields) THEN t.payload END AS payload,
               CASE WHEN 'result' = ANY (f.fields) THEN t.result END AS result, t.result IS NOT NULL AS has_result
          FROM page t LEFT JOIN fitting f USING (display_id)
         ORDER BY t.display_id DESC
        """


_FILTERS = [(), ("status",), ("task_type",), ("user_id",), ("gpu_id",), ("user_id", "gpu_id")]
_PAGES = {(one, order): _page(_ids(one, order)) for one in map(_Choice.of, _FILTERS) for order in ("DESC", "ASC")}


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
    """The owners of those of these tasks that there are."""
    return await connection.all(Owner, _OWNERS, {"task_ids": task_ids})


async def original(connection: Connection, task_id: str) -> Original | None:
    """What a retry of this task takes over, or None."""
    return await connection.one_or_none(Original, _ORIGINAL, {"task_id": task_id})


async def page(
    connection: Connection, chosen: TaskFilter, *, limit: int, offset: int, room: int
) -> tuple[list[ListedTask], int]:
    """One page of tasks, newest first, and their total.

    The total is a kept count where there is one; else a total beyond MOST_COUNTED only says that there are more, and
    a page from there on is empty: it would be read from the beginning of the list.
    Payloads and results are `room` bytes at most: the largest are null, and a result that is left out has `has_result`.
    """
    if (kept := chosen.kept) is not None:
        return await _kept_page(connection, kept, limit=limit, offset=offset, room=room)
    await connection.execute(PLAN_ANEW)
    total = await connection.one(int, _count(chosen), chosen.values | {"most": MOST_COUNTED + 1})
    ids = f"SELECT t.display_id FROM tasks t WHERE {chosen.where} ORDER BY t.display_id DESC {_LIMIT}"
    values = chosen.values | {"limit": limit, "offset": offset, "room": room}
    is_there = offset < min(total, MOST_COUNTED)
    return (await connection.all(ListedTask, _page(ids), values) if is_there else []), total


def _count(chosen: TaskFilter) -> str:
    return f"SELECT count(*) FROM (SELECT FROM tasks t WHERE {chosen.where} LIMIT %(most)s) counted"


async def _kept_page(
    connection: Connection, filters: dict[str, Any], *, limit: int, offset: int, room: int
) -> tuple[list[ListedTask], int]:
    """`filters`: status, task_type, gpu_id, user_id."""
    whose = {name: filters[name] for name in ("user_id", "gpu_id") if name in filters}
    status, task_type = filters.get("status"), filters.get("task_type")
    kinds = await counters.tasks_by_kind(connection, **whose)
    total = counters.matching(kinds, status=status, task_type=task_type)
    if offset >= total:
        return [], total
    newest_first = offset < max(FAR, total // 2)
    limit = min(limit, total - offset)
    skipped = offset if newest_first else total - offset - limit
    values = {
        **filters,
        "types": sorted({kind for kind, _ in kinds}) if task_type is None else [task_type],
        "statuses": list(TaskStatus) if status is None else [status],  # all: a task may move meanwhile
        "limit": limit,
        "offset": skipped,
        "reach": limit + skipped,
        "room": room,
    }
    statement = _PAGES[_Choice.of(filters), "DESC" if newest_first else "ASC"]
    return await connection.all(ListedTask, statement, values), total


async def progress(connection: Connection, task_id: str) -> Progress | None:
    """A task's progress, or None."""
    return next(iter(await progress_of_all(connection, [task_id])), None)


async def progress_of_all(connection: Connection, task_ids: Sequence[str]) -> list[Progress]:
    """The progress of those of the tasks that are there."""
    return await connection.all(Progress, _PROGRESS, {"task_ids": list(task_ids)})

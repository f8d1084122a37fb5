"""The rows of bulk operations: cancels and retries of many tasks, processed in the background (ADR 0041).

An operation changes the tasks that fit its filter when their turn comes, among those that were there when it was asked
for: up to `bound`, the greatest display id of that moment. So what a retry creates is not retried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from infra.db.access.callers import Caller
from infra.db.connection import Connection, columns, placeholders
from infra.db.tasks.filters import PLAN_ANEW, TaskFilter
from workflows.domain.key_limits import KeyLimits
from workflows.domain.operation import OperationKind, OperationState
from workflows.domain.role import Role
from workflows.domain.task import EndReason, TaskStatus
from workflows.messages import OperationProgress

_STATUSES = {
    OperationKind.CANCEL: [TaskStatus.QUEUED, TaskStatus.PROCESSING],
    OperationKind.RETRY: [TaskStatus.FAILED, TaskStatus.TIMEOUT],
}
_CHANGES = {
    OperationKind.CANCEL: "t.display_id <= %(bound)s",
    # not what has failed since; a time to come means that the clock was set back
    OperationKind.RETRY: "t.display_id <= %(bound)s"
    " AND (t.completed_at <= %(asked_at)s OR t.completed_at > clock_timestamp())",
}
"""The tasks that an operation changes, among those in its statuses."""
_TYPES: dict[str, Callable[[Any], Any]] = {"status": TaskStatus, "end_reason": EndReason, "task_ids": tuple}
"""Types of a filter's fields that JSON does not have."""
STALLED_S = 5.0
"""Seconds without progress after which an operation's workflow may never have been started."""


@dataclass(frozen=True)
class Moment:
    """When an operation was asked for: by the database's clock, and as the greatest display id."""

    asked_at: datetime
    bound: int


@dataclass(frozen=True)
class Operation:
    """An operation as it was asked for, and how far it is.

    `filter` is a `TaskFilter` as JSON; `reason`: of a cancel. Tasks up to `cursor`, a display id, have had their turn.
    """

    operation_id: str
    kind: OperationKind
    filter: dict[str, Any]
    reason: str | None
    key_id: str
    owner: str
    role: Role
    lineage: str
    grants: dict[str, Any]
    idempotency_key: str | None
    request_hash: str
    asked_at: datetime
    bound: int
    matched: int
    state: OperationState
    done: int = 0
    failed: int = 0
    cursor: int = 0

    @property
    def chosen(self) -> TaskFilter:
        """The filter."""
        given = dict(self.filter)
        for name, kind in _TYPES.items():
            if name in given:
                given[name] = kind(given[name])
        return TaskFilter(**given)

    @property
    def by(self) -> Caller:
        """The caller who asked for it, as they were then."""
        return Caller(self.key_id, Role(self.role), self.owner, self.lineage, limits=KeyLimits.of(self.grants))

    @property
    def progress(self) -> OperationProgress:
        """The message for the workflow."""
        return OperationProgress(OperationState(self.state), self.matched, self.done, self.failed)


@dataclass(frozen=True)
class PagedTask:
    """A task whose turn it is; `waits`: for a slot."""

    display_id: int
    task_id: str
    waits: bool


_NOW = "SELECT clock_timestamp() AS asked_at, COALESCE(max(display_id), 0) AS bound FROM tasks"
_ADD = f"""
    INSERT INTO operations ({columns(Operation)}, completed_at)
    VALUES ({placeholders(Operation)}, CASE WHEN %(state)s = 'DONE' THEN clock_timestamp() END)
        ON CONFLICT (lineage, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    """
_RUNNING = "SELECT count(*) FROM operations WHERE state = 'RUNNING' AND lineage = %(lineage)s"
_GET = f"SELECT {columns(Operation)} FROM operations WHERE operation_id = %(operation_id)s"
_SEEN = (
    f"SELECT {columns(Operation)} FROM operations WHERE lineage = %(lineage)s AND idempotency_key = %(idempotency_key)s"
)
_UPDATE = "UPDATE operations SET updated_at = clock_timestamp(),"
_COUNT = f"{_UPDATE} done = done + %(done)s WHERE operation_id = %(operation_id)s"
_PASS = f"""
    {_UPDATE} cursor = %(cursor)s, done = done + %(done)s, failed = failed + %(failed)s
     WHERE operation_id = %(operation_id)s AND cursor < %(cursor)s
    """
_FINISH = f"""
    {_UPDATE} state = 'DONE', completed_at = clock_timestamp(), failed = GREATEST(failed, matched - done),
           matched = GREATEST(matched, done + failed)  -- a task may fit by now
     WHERE operation_id = %(operation_id)s AND state = 'RUNNING'
    """
_STALLED = """
    SELECT operation_id FROM operations
     WHERE state = 'RUNNING' AND updated_at NOT BETWEEN clock_timestamp() - make_interval(secs => %(stalled)s)
                                                    AND clock_timestamp()
     ORDER BY operation_id <= %(after)s, operation_id LIMIT %(limit)s
    """


async def now(connection: Connection) -> Moment:
    """The moment at which an operation is asked for."""
    return await connection.one(Moment, _NOW)


async def matched(connection: Connection, kind: OperationKind, chosen: TaskFilter, moment: Moment) -> int:
    """The number of tasks that an operation would change."""
    await connection.execute(PLAN_ANEW)
    return await connection.one(int, _matched(kind, chosen), _values(kind, chosen, moment))


def _matched(kind: OperationKind, chosen: TaskFilter) -> str:
    return f"""
        SELECT count(*) FROM tasks t
         WHERE t.status = ANY (CAST(%(statuses)s AS text[])) AND {_CHANGES[kind]} AND {chosen.where}
        """


def _page(kind: OperationKind, chosen: TaskFilter) -> str:
    """Each status is a stretch of an index in the order of the display ids."""
    return f"""
        SELECT turn.* FROM unnest(CAST(%(statuses)s AS text[])) AS s (status)
         CROSS JOIN LATERAL (
               SELECT t.display_id, t.task_id, t.waiting_since IS NOT NULL AS waits FROM tasks t
                WHERE t.status = s.status AND t.display_id > %(cursor)s AND {_CHANGES[kind]} AND {chosen.where}
                ORDER BY t.display_id LIMIT %(limit)s) turn
         ORDER BY turn.display_id LIMIT %(limit)s
        """


def _values(kind: OperationKind, chosen: TaskFilter, moment: Moment | Operation) -> dict[str, object]:
    return {
        **chosen.values,
        "statuses": _STATUSES[kind],
        "bound": moment.bound,
        "asked_at": moment.asked_at,
    }


async def running(connection: Connection, lineage: str) -> int:
    """The number of a lineage's operations that are not DONE."""
    return await connection.one(int, _RUNNING, {"lineage": lineage})


async def add(connection: Connection, operation: Operation) -> bool:
    """Write the row. Returns False if the caller's Idempotency-Key was used before."""
    values = operation.__dict__ | {"filter": Jsonb(operation.filter), "grants": Jsonb(operation.grants)}
    return await connection.execute(_ADD, values) == 1


async def get(connection: Connection, operation_id: str) -> Operation | None:
    """An operation, or None."""
    return await connection.one_or_none(Operation, _GET, {"operation_id": operation_id})


async def seen(connection: Connection, lineage: str, idempotency_key: str) -> Operation | None:
    """The operation that the caller's Idempotency-Key made before, or None."""
    return await connection.one_or_none(Operation, _SEEN, {"lineage": lineage, "idempotency_key": idempotency_key})


async def page(connection: Connection, operation: Operation, limit: int) -> list[PagedTask]:
    """The next tasks, in the order of their display ids."""
    await connection.execute(PLAN_ANEW)
    values = _values(operation.kind, operation.chosen, operation) | {"cursor": operation.cursor, "limit": limit}
    return await connection.all(PagedTask, _page(operation.kind, operation.chosen), values)


async def count(connection: Connection, operation_id: str, done: int) -> None:
    """Count tasks that this transaction has changed. The row is the last lock that it takes."""
    await connection.execute(_COUNT, {"operation_id": operation_id, "done": done})


async def pass_by(connection: Connection, operation_id: str, cursor: int, *, done: int = 0, failed: int = 0) -> bool:
    """Move the cursor, and count. Returns False if it is there already: then nothing may be committed."""
    values = {"operation_id": operation_id, "cursor": cursor, "done": done, "failed": failed}
    return await connection.execute(_PASS, values) == 1


async def finish(connection: Connection, operation_id: str) -> None:
    """Every task has had its turn. A task that was matched and is not done has failed: it may have changed."""
    await connection.execute(_FINISH, {"operation_id": operation_id})


async def stalled(connection: Connection, after: str, limit: int) -> list[str]:
    """Operations that have made no progress for `STALLED_S`: their workflow may not run.

    Those with an id after `after` come first, so that each has its turn.
    """
    return await connection.all(str, _STALLED, {"stalled": STALLED_S, "after": after, "limit": limit})

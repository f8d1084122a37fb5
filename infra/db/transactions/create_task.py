"""Creating a task: its row, its place in the queue, and, if one is free, its slot (ADR 0015)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from infra.db import clock, locks
from infra.db.connection import Connection, columns, placeholders
from infra.db.ops import audit, counters
from infra.db.ops.api_keys import Caller
from infra.db.ops.audit import Action
from infra.db.queue import ranks
from infra.db.queue.order import Place
from infra.db.queue.position import Milestones
from infra.db.slots import ahead_of_new, search
from infra.db.slots import capacity as capacities
from infra.db.slots.capacity import Capacity
from infra.db.slots.search import Found, Seeker
from infra.db.slots.wait_estimate import expected_wait_s, stored_wait
from infra.db.tasks import outbox
from infra.db.tasks.new_task import NO_BOUNDS, NewTask, StoredTask, TimeBounds
from infra.temporal.notifications import Granted
from workflows.domain import shares
from workflows.domain.errors import DeadlinePassed, IdempotencyConflict, TooManyWaiting
from workflows.messages import Grant


@dataclass(frozen=True)
class _Seen(StoredTask):
    request_hash: str | None
    unstarted: bool


@dataclass(frozen=True)
class _Moments:
    expires_at: datetime | None
    is_past: bool  # the deadline


@dataclass(frozen=True)
class Created:
    """A new task's row, or the earlier one of the same request."""

    row: StoredTask
    unstarted: bool  # its workflow is to be started, which does no harm where it runs
    waits: bool = False  # there is certainly no slot for it: whoever frees one sees it
    grant: Grant | None = None  # the slot that it got
    others: tuple[Granted, ...] = ()  # slots that better tasks got on the way
    far_back: bool = False  # there were too many ahead to count them


_CREATE = f"""
    WITH created AS (
        INSERT INTO tasks ({columns(NewTask)}, status, estimated_wait_s, queue_rank, waiting_since, event_seq)
        VALUES ({placeholders(NewTask)}, 'QUEUED', %(estimated_wait_s)s, %(rank)s, clock_timestamp(), 1)
            ON CONFLICT (lineage, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
     RETURNING {columns(StoredTask)}),
    event AS (
        INSERT INTO task_events (task_id, seq, to_status, actor) SELECT task_id, 1, 'QUEUED', %(actor)s FROM created),
    start AS ({outbox.ADD}),
    audit AS (
        INSERT INTO audit_log (key_id, owner, role, action, subject, detail, outcome)
        SELECT %(key_id)s, %(owner)s, %(role)s, %(action)s, %(subject)s, %(detail)s, %(outcome)s FROM created
         WHERE %(audited)s)
    SELECT {columns(StoredTask)} FROM created
    """
_MOMENTS = f"""
    SELECT {clock.NOW} + make_interval(secs => CAST(%(expires_in)s AS float)) AS expires_at,
           COALESCE(CAST(%(deadline)s AS timestamptz) <= {clock.NOW}, false) AS is_past
    """
_SEEN = (
    "SELECT task_id, display_id, status, estimated_wait_s, request_hash,"
    "       EXISTS (SELECT FROM outbox o WHERE o.task_id = tasks.task_id) AS unstarted FROM tasks"
    " WHERE lineage = %(lineage)s AND idempotency_key = %(idempotency_key)s"
)


async def create(
    connection: Connection,
    task: NewTask,
    capacity: Capacity,
    *,
    weight: float,
    by: Caller,
    max_waiting: int | None = None,
    bounds: TimeBounds = NO_BOUNDS,
    claims_slot: bool = True,
    audited: bool = True,
    milestones: Mapping[int, Milestones] | None = None,
) -> Created:
    """Write the row, its place in the queue, and its entries in the outbox and the audit log.

    Not `audited`: another entry of the audit log says it. With `claims_slot` the task also gets a slot, if one is free.
    With `milestones` of the types in its pool, a long queue need not be counted. Raises IdempotencyConflict if the key
    was used with another body, TooManyWaiting if `max_waiting` tasks of the same user are QUEUED, DeadlinePassed,
    WaitTooLong: then nothing may be committed.
    """
    await locks.request(connection, task.lineage, task.idempotency_key)
    if max_waiting is not None and (seen := await _within_cap(connection, task, max_waiting)) is not None:
        return _earlier(seen)
    vip = task.queue_class > 0
    flow = shares.named(task.flow, task.app)
    await locks.type_and_flow(connection, task.task_type, task.queue_class, flow)
    may_refuse = task.deadline is not None or bounds.max_wait_s is not None
    if may_refuse and (seen := await _seen(connection, task)) is not None:
        return _earlier(seen)  # however its deadline and the wait are now
    task = await _with_expiry(connection, task, bounds)
    if bounds.max_wait_s is not None:
        seen_by = connection.policy.on_vip_nodes(vip=vip)
        capacity = await capacities.read(connection, task.task_type, vip_nodes=seen_by)
    free = capacity.nodes.free > 0  # true a moment ago
    if not free:
        free = await search.is_any_free(connection, task.task_type, vip=vip)
    joined = await ranks.join(connection, task.task_type, task.queue_class, flow, weight, capacity.pool)
    place = Place.of_new(task.queue_class, joined.rank)
    ahead = 0 if joined.alone else await ahead_of_new.count(connection, task.task_type, place, capacity, milestones)
    wait_s = 0 if free and joined.alone else expected_wait_s(ahead, capacity)
    if not free:
        bounds.check_wait(wait_s)
    values = task.__dict__ | {"rank": joined.rank, "estimated_wait_s": stored_wait(wait_s), "actor": f"key:{by.key_id}"}
    values |= _entry(by, task) | {"audited": audited}
    row = await connection.one_or_none(StoredTask, _CREATE, values)
    if row is None:
        seen = await _seen(connection, task)
        assert seen is not None  # nothing else conflicts, and no task is ever removed
        return _earlier(seen)
    found = Found(waiting=not free)
    if free and claims_slot:
        seeker = Seeker(row.task_id, task.task_type, vip, failed_on=[], barred_on=[])
        found = await search.find(connection, seeker)
    if found.grant is None and (found.waiting or not claims_slot):  # else it is not known yet
        bounds.check_wait(wait_s)
    return Created(row, True, found.waiting, found.grant, found.others, far_back=ahead >= ahead_of_new.COUNTED)


def _entry(by: Caller, task: NewTask) -> dict[str, object]:
    """The entry of the audit log: a retry is done to the task that it repeats."""
    if task.retry_of is not None:
        return audit.values(by, Action.TASK_RETRY, task.retry_of, f"new task {task.task_id}")
    return audit.values(by, Action.TASK_CREATE, task.task_id, f"type {task.task_type}, user {task.user_id}")


async def _with_expiry(connection: Connection, task: NewTask, bounds: TimeBounds) -> NewTask:
    """The task with its expiry by the database's clock. Raises DeadlinePassed."""
    if bounds.expires_in_ms is None and task.deadline is None:
        return task
    expires_in_s = None if bounds.expires_in_ms is None else bounds.expires_in_ms / 1000
    values = {"expires_in": expires_in_s, "deadline": task.deadline}
    found = await connection.one(_Moments, _MOMENTS, values)
    if found.is_past:
        raise DeadlinePassed
    return replace(task, expires_at=found.expires_at or task.expires_at)


async def _within_cap(connection: Connection, task: NewTask, max_waiting: int) -> _Seen | None:
    """The earlier task of the same request, which needs no room. Raises TooManyWaiting."""
    await locks.user(connection, task.user_id)
    if task.idempotency_key is not None and (seen := await _seen(connection, task)) is not None:
        return seen
    if await counters.queued_of(connection, task.user_id) >= max_waiting:
        raise TooManyWaiting
    return None


def _earlier(row: _Seen) -> Created:
    """The earlier task of the same request. If its workflow has not been heard of it may be started again."""
    return Created(row, unstarted=row.unstarted)


async def _seen(connection: Connection, task: NewTask) -> _Seen | None:
    """The task that the same caller's Idempotency-Key made before. Raises IdempotencyConflict."""
    key = {"lineage": task.lineage, "idempotency_key": task.idempotency_key}
    row = await connection.one_or_none(_Seen, _SEEN, key)
    if row is not None and row.request_hash != task.request_hash:
        raise IdempotencyConflict
    return row

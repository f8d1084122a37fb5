"""Creating a task: its row, its place in the queue, and, if one is free, its slot (ADR 0015)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from infra.db import locks
from infra.db.access import audit
from infra.db.access.audit import Action
from infra.db.access.callers import Caller
from infra.db.connection import Connection, columns, placeholders
from infra.db.ops import counters
from infra.db.queue import ranks
from infra.db.queue.order import QueuePlace
from infra.db.slots import search
from infra.db.slots.eligibility import Wanted
from infra.db.slots.outlook import Outlook
from infra.db.slots.search import NoSlot, SearchResult, Seeker
from infra.db.slots.wait_estimate import stored_wait
from infra.db.tasks import limits, outbox, repetitions, timeline
from infra.db.tasks.new_task import NO_BOUNDS, NewTask, StoredTask, TimeBounds
from workflows.domain import shares
from workflows.domain.errors import DeadlinePassed, TooManyWaiting
from workflows.messages import Grant
from workflows.notifications import Granted


@dataclass(frozen=True)
class Created:
    """A new task's row, or the earlier one of the same request."""

    row: StoredTask
    unstarted: bool  # its workflow is to be started, which does no harm where it runs
    waits: bool = False  # no slot is free, and any release from now on sees it
    grant: Grant | None = None  # the slot that it got
    others: tuple[Granted, ...] = ()  # slots that better tasks got on the way


_CREATE = f"""
    WITH created AS (
        INSERT INTO tasks ({columns(NewTask)}, status, estimated_wait_s, queue_rank, waiting_since, event_seq)
        VALUES ({placeholders(NewTask)}, 'QUEUED', %(estimated_wait_s)s, %(rank)s, clock_timestamp(), 1)
     RETURNING {columns(StoredTask)}),
    event AS ({timeline.ADD}),
    start AS ({outbox.ADD}),
    audit AS (
        INSERT INTO audit_log (key_id, owner, role, action, subject, detail, outcome)
        SELECT %(key_id)s, %(owner)s, %(role)s, %(action)s, %(subject)s, %(detail)s, %(outcome)s FROM created
         WHERE %(audited)s)
    SELECT {columns(StoredTask)} FROM created
    """


async def create(
    connection: Connection,
    task: NewTask,
    outlook: Outlook,
    *,
    weight: float,
    by: Caller,
    max_waiting: int | None = None,
    bounds: TimeBounds = NO_BOUNDS,
    claims_slot: bool = True,
    audited: bool = True,
) -> Created:
    """Write the row, its place in the queue, and its entries in the outbox and the audit log.

    Not `audited`: another entry of the audit log says it. With `claims_slot` the task also gets a slot, if one is free.
    Raises IdempotencyConflict if the key was used with another body, TooManyWaiting if `max_waiting` tasks of the same
    user are QUEUED, DeadlinePassed, WaitTooLong: then nothing may be committed.
    """
    await locks.request(connection, task.lineage, task.idempotency_key)
    if seen := await repetitions.seen(connection, [task]):
        return Created(seen[0], unstarted=seen[0].unstarted)  # whatever the queue and the deadline are now
    if max_waiting is not None:
        await _check_cap(connection, task.user_id, max_waiting)
    wanted = Wanted.of_new(task)
    flow = shares.named(task.flow, task.app)
    await locks.type_and_flow(connection, task.task_type, task.queue_class, flow)
    task = await _limited(connection, task, bounds)
    if bounds.max_wait_s is not None:
        outlook = await outlook.now(connection, wanted)
    seeker = Seeker(task.task_id, task.task_type, wanted.vip, failed_on=[], barred_on=[])
    was_free = outlook.capacity.nodes.free > 0  # a moment ago
    free = was_free or await search.is_any_free(connection, seeker)
    joined = await ranks.join(connection, task.task_type, task.queue_class, flow, weight, outlook.capacity.clock)
    place = None if joined.alone else QueuePlace.of_new(task.queue_class, joined.rank)
    wait_s = 0 if free and place is None else await outlook.wait_s(connection, task.task_type, place)
    if not free:
        bounds.check_wait(wait_s)
    values = {"rank": joined.rank, "estimated_wait_s": stored_wait(wait_s), "audited": audited}
    row = await connection.one(StoredTask, _CREATE, values | task.__dict__ | _entry(by, task))
    found = SearchResult() if free else SearchResult(NoSlot())
    if free and claims_slot:
        found = await search.find(connection, seeker)
    waits = isinstance(found.result, NoSlot)
    if waits or not claims_slot:  # otherwise it has a slot, or it is not known yet
        bounds.check_wait(wait_s)
    grant = found.result if isinstance(found.result, Grant) else None
    return Created(row, True, waits, grant, found.others)


async def _limited(connection: Connection, task: NewTask, bounds: TimeBounds) -> NewTask:
    """The task with its expiry; a retry without a deadline that has passed since its original was read.

    Raises DeadlinePassed.
    """
    try:
        expires_at = await limits.expiry(connection, bounds.expires_in_ms, task.deadline)
    except DeadlinePassed:
        if task.retry_of is None:
            raise
        return await _limited(connection, replace(task, deadline=None), bounds)
    return replace(task, expires_at=expires_at or task.expires_at)


def _entry(by: Caller, task: NewTask) -> dict[str, object]:
    """The entry of the audit log, and the actor of the timeline's. A retry is done to the task that it repeats."""
    actor = {"actor": f"key:{by.key_id}"}
    if task.retry_of is not None:
        return actor | audit.values(by, Action.TASK_RETRY, task.retry_of, f"new task {task.task_id}")
    detail = f"type {task.task_type}, user {task.user_id}"
    return actor | audit.values(by, Action.TASK_CREATE, task.task_id, detail)


async def _check_cap(connection: Connection, user_id: str, max_waiting: int) -> None:
    """Check that the user may have one more task that waits. Raises TooManyWaiting."""
    await locks.user(connection, user_id)
    if (await counters.queued_of(connection, [user_id]))[user_id] >= max_waiting:
        raise TooManyWaiting

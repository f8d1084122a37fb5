"""Changing the priority of a task that has no slot (ADR 0036)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from infra.db import locks
from infra.db.access import audit
from infra.db.access.audit import Action
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.queue import ranks
from infra.db.session import Transaction
from infra.db.slots import search
from infra.db.slots.search import NoSlot, Seeker
from infra.db.tasks import timeline
from infra.db.tasks.transitions import Cause
from infra.db.transactions import claim_slot
from infra.db.transactions.claim_slot import Claim
from workflows.domain import priority as priorities
from workflows.domain.errors import NotInThisState, TaskNotFound
from workflows.domain.task import TERMINAL, TaskStatus
from workflows.notifications import Notifications

_READ = f"""
    SELECT {search.seeker("t")}, t.status, t.user_id, t.app, t.priority, t.timeout_ms, t.traceparent,
           t.waiting_since, t.attempts,
           EXISTS (SELECT FROM attempts a WHERE a.task_id = t.task_id AND a.closed_at IS NULL) AS has_slot
      FROM tasks t WHERE t.task_id = %(task_id)s
    """
# A claim raises `attempts`: so one that came in between is seen on this very row. A task that had been promoted by age
# keeps the better one of both places.
_CHANGE = """
    UPDATE tasks SET priority = %(priority)s, updated_at = clock_timestamp()
     WHERE task_id = %(task_id)s AND status = 'QUEUED' AND attempts = %(attempts)s
    """
_CHANGE_CLASS = """
    UPDATE tasks
       SET priority = %(priority)s, updated_at = clock_timestamp(), queue_class = %(queue_class)s, promoted_at = NULL,
           queue_rank = CASE WHEN queue_class = %(queue_class)s THEN LEAST(queue_rank, %(rank)s) ELSE %(rank)s END
     WHERE task_id = %(task_id)s AND status = 'QUEUED' AND attempts = %(attempts)s
    """


@dataclass(frozen=True)
class Share:
    """The share of the queue that the task takes, as at a creation: its flow, that flow's weight, and the types that
    share a node with the task's."""

    flow: str
    weight: float
    pool: list[int]


@dataclass(frozen=True)
class _Task(Seeker):
    status: str
    user_id: str
    app: str
    priority: int
    timeout_ms: int
    traceparent: str | None
    waiting_since: datetime | None
    attempts: int
    has_slot: bool


@dataclass(frozen=True)
class _Changed:
    task: _Task
    found: Claim = field(default_factory=lambda: Claim(TaskStatus.QUEUED, NoSlot()))


async def change(
    transaction: Transaction,
    by: Caller,
    task_id: str,
    task_type: int,
    priority: int,
    share: Share,
    *,
    claims_slot: bool = True,
) -> Notifications:
    """Change the priority, and with it the place in the queue. Repeating it changes nothing.

    With `claims_slot` a task that waits searches for a slot, as at its creation: it may use other nodes now. Raises
    TaskNotFound, and NotInThisState if the task has ended or has a slot.
    """
    changed = await transaction(lambda c: _change(c, by, task_id, task_type, priority, share, claims_slot=claims_slot))
    found = await claim_slot.go_on(transaction, task_id, changed.found)
    return found.notifications(changed.task)


async def _change(
    connection: Connection,
    by: Caller,
    task_id: str,
    task_type: int,
    priority: int,
    share: Share,
    *,
    claims_slot: bool,
) -> _Changed:
    queue_class = priorities.queue_class(priority)
    await locks.type_and_flow(connection, task_type, queue_class, share.flow)
    before = await _read(connection, task_id)
    if before.status in TERMINAL:
        raise NotInThisState(f"任务已以 {before.status} 结束")
    if before.status != TaskStatus.QUEUED or before.has_slot:
        raise _has_slot()
    if before.priority == priority:
        await audit.record(connection, by, Action.TASK_PRIORITY, task_id, f"{priority}", changed=False)
        return _Changed(before)
    await _write(connection, before, priority, queue_class, share)
    detail = f"{before.priority} → {priority}"
    cause = Cause(task_id, None, None, f"key:{by.key_id}", f"优先级 {detail}")
    await timeline.note(connection, cause)
    await audit.record(connection, by, Action.TASK_PRIORITY, task_id, detail)
    task = await _read(connection, task_id)
    searches = claims_slot and task.waiting_since is not None
    if not searches:
        return _Changed(task)
    return _Changed(task, Claim.of(task.status, await search.find(connection, task)))


async def _read(connection: Connection, task_id: str) -> _Task:
    task = await connection.one_or_none(_Task, _READ, {"task_id": task_id})
    if task is None:
        raise TaskNotFound
    return task


async def _write(connection: Connection, before: _Task, priority: int, queue_class: int, share: Share) -> None:
    """Write the new priority. Raises NotInThisState if the task has just got a slot."""
    values = {"task_id": before.task_id, "priority": priority, "attempts": before.attempts}
    if priorities.queue_class(before.priority) == queue_class:
        written = await connection.execute(_CHANGE, values)
    else:
        joined = await ranks.join(connection, before.task_type, queue_class, share.flow, share.weight, share.pool)
        written = await connection.execute(_CHANGE_CLASS, {**values, "queue_class": queue_class, "rank": joined.rank})
    if not written:
        raise _has_slot()


def _has_slot() -> NotInThisState:
    return NotInThisState("任务已获得槽位，不能再修改优先级")

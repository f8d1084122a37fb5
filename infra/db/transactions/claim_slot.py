"""Claiming a slot for a task before a retry, or after its grant was lost: in one transaction, or a few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from infra.db import holding, locks
from infra.db.connection import Connection
from infra.db.session import Transaction
from infra.db.slots import assign, search
from infra.db.slots.search import NoSlot, SearchResult, Seeker, Undecided
from infra.db.tasks import limits
from workflows.domain.task import TERMINAL, EndReason, TaskStatus
from workflows.messages import Grant
from workflows.notifications import Granted, Notifications

_REQUEST = f"""
    SELECT {search.seeker("t")}, t.status, t.end_reason, t.waiting_since, t.attempts,
           a.attempt, a.gpu_id, a.closed_at, a.collected_at,
           {limits.passed("t")} AS past, {holding.may_run("a")} AS may_run
      FROM tasks t LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
     WHERE t.task_id = %(task_id)s
    """
_ENQUEUE = (  # `attempts` is as it was read: so a claim that came in between is seen on this very row
    "UPDATE tasks SET waiting_since = clock_timestamp()"
    " WHERE task_id = %(task_id)s AND waiting_since IS NULL AND status = 'QUEUED' AND attempts = %(attempts)s"
)


@dataclass(frozen=True)
class Uncollected:
    """The last attempt is closed, and its workflow has not collected it."""

    attempt: Grant


@dataclass(frozen=True)
class PastLimit:
    """A limit of the task has passed, so the task is to be ended."""

    reason: EndReason


@dataclass(frozen=True)
class TaskEnded:
    """The task has ended, or is unknown. `running`: its last attempt, where the node may still run it."""

    cancelled: bool = False
    running: Grant | None = None


@dataclass(frozen=True)
class Claim:
    """The result of a task's search for a slot, and the grants of better tasks on the way."""

    status: TaskStatus | None
    result: Grant | NoSlot | Uncollected | PastLimit | TaskEnded | Undecided
    others: tuple[Granted, ...] = ()

    @classmethod
    def of(cls, status: str, found: SearchResult) -> Claim:
        """The result of a search for a task of this status."""
        return cls(TaskStatus(status), found.result, found.others)

    @property
    def grant(self) -> Grant | None:
        """The slot that the task has."""
        return self.result if isinstance(self.result, Grant) else None

    def notifications(self, task: Any) -> Notifications:
        """All grants; `task` has a task's columns as attributes."""
        own = [Granted.of(task, self.grant)] if self.grant is not None else []
        return Notifications(grants=[*own, *self.others])

    @property
    def over(self) -> bool:
        """Whether there is nothing more to look for."""
        return not isinstance(self.result, Undecided)


@dataclass(frozen=True)
class _Task(Seeker):
    status: str
    end_reason: str | None
    waiting_since: datetime | None
    attempts: int
    attempt: int | None  # the last one, and its node
    gpu_id: str | None
    closed_at: datetime | None
    collected_at: datetime | None
    past: str | None
    may_run: bool


async def claim(transaction: Transaction, task_id: str) -> Claim:
    """Find a slot for a task, or leave it waiting. Repeating it returns the open grant.

    First a search that waits for no node's row, then `go_on`.
    """
    return await go_on(transaction, task_id, await transaction(partial(_search, task_id=task_id)))


async def go_on(transaction: Transaction, task_id: str, found: Claim) -> Claim:
    """Go on with a search that is not over.

    Each transaction waits for one node: a transaction that holds a node's row never waits for another lock, so no two
    block each other.
    """
    tried: list[str] = []
    while not found.over:
        last, gpu_id = await transaction(partial(_search_on, task_id=task_id, tried=tried))
        tried = [*tried, gpu_id]
        found = replace(last, others=found.others + last.others)
    return found


async def _search(connection: Connection, task_id: str) -> Claim:
    row, found = await _hold(connection, task_id)
    if row is None or found.over:
        return found
    if row.waiting_since is None:
        await connection.execute(_ENQUEUE, {"task_id": task_id, "attempts": row.attempts})
    return Claim.of(row.status, await search.find(connection, row))


async def _search_on(connection: Connection, task_id: str, tried: list[str]) -> tuple[Claim, str]:
    """Assign the slots of one more node, waiting for its row, and name it; `NoSlot` if there is none."""
    row, found = await _hold(connection, task_id)
    if row is None or found.over:
        return found, ""
    gpu_id = await search.candidate(connection, row, tried, skip_locked=False)
    if gpu_id is None:
        return Claim.of(row.status, SearchResult(NoSlot())), ""
    granted = await assign.assign(connection, gpu_id)
    return Claim.of(row.status, SearchResult().after(task_id, granted)), gpu_id


async def _hold(connection: Connection, task_id: str) -> tuple[_Task | None, Claim]:
    """Take the lock of the task's type, and read how the task is then."""
    row = await _read(connection, task_id)
    if row is not None and not _found(row).over:
        await locks.type_exclusively(connection, row.task_type)
        row = await _read(connection, task_id)
    return row, _found(row)


async def _read(connection: Connection, task_id: str) -> _Task | None:
    return await connection.one_or_none(_Task, _REQUEST, {"task_id": task_id})


def _found(row: _Task | None) -> Claim:
    """The claim that the row of a task and its last attempt show."""
    return Claim(None, TaskEnded()) if row is None else Claim(TaskStatus(row.status), _result(row))


def _result(row: _Task) -> Grant | Uncollected | PastLimit | TaskEnded | Undecided:
    last = None if row.attempt is None or row.gpu_id is None else Grant(row.attempt, row.gpu_id)
    if last is not None and row.collected_at is None:
        return last if row.closed_at is None else Uncollected(last)
    if row.past is not None:
        return PastLimit(EndReason(row.past))
    if row.status in TERMINAL:
        return TaskEnded(row.end_reason == EndReason.CANCELLED, last if row.may_run else None)
    return Undecided()

"""Claiming a slot for a task before a retry, or after its grant was lost: in one transaction, or a few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from infra.db import holding, locks
from infra.db.connection import Connection
from infra.db.session import Transaction
from infra.db.slots import assign, eligibility, search
from infra.db.slots.search import Found, Seeker
from infra.db.tasks import limits
from workflows.domain.task import TERMINAL, EndReason, TaskStatus
from workflows.messages import Grant

_REQUEST = f"""
    SELECT t.task_id, t.status, t.end_reason, t.task_type, {eligibility.VIP.format(task="t")} AS vip,
           t.failed_on, t.barred_on, t.waiting_since, t.attempts, a.attempt, a.gpu_id, a.closed_at, a.collected_at,
           {limits.passed("t")} AS past, {holding.may_run("a")} AS may_run
      FROM tasks t LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
     WHERE t.task_id = %(task_id)s
    """
_ENQUEUE = (  # `attempts` is as it was read: so a claim that came in between is seen on this very row
    "UPDATE tasks SET waiting_since = clock_timestamp()"
    " WHERE task_id = %(task_id)s AND waiting_since IS NULL AND status = 'QUEUED' AND attempts = %(attempts)s"
)


@dataclass(frozen=True)
class Claim(Found):
    """The result of a task's search for a slot, and what else may have become of the task.

    `settled` is a closed attempt that its workflow has not collected. `past`: a limit of the task that has passed, so
    the task is to be ended. `running`: the last attempt of a task that has ended, where its node may still run it.
    With none of the five the search is not over, or the task is unknown or has ended.
    """

    status: TaskStatus | None = None
    settled: Grant | None = None
    cancelled: bool = False
    past: EndReason | None = None
    running: Grant | None = None
    tried: str | None = None  # the node that was waited for

    @classmethod
    def of(cls, status: str, found: Found, tried: str | None = None) -> Claim:
        """What a search has found for a task of this status."""
        return cls(found.grant, found.others, found.waiting, TaskStatus(status), tried=tried)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to look for."""
        ended = self.status is None or self.status in TERMINAL
        return ended or self.waiting or any(one is not None for one in (self.grant, self.settled, self.past))


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
        last = await transaction(partial(_search_on, task_id=task_id, tried=tried))
        tried = [*tried, *filter(None, [last.tried])]
        found = replace(last, others=found.others + last.others)
    return found


async def _search(connection: Connection, task_id: str) -> Claim:
    row, found = await _hold(connection, task_id)
    if row is None or found.over:
        return found
    if row.waiting_since is None:
        await connection.execute(_ENQUEUE, {"task_id": task_id, "attempts": row.attempts})
    return Claim.of(row.status, await search.find(connection, row))


async def _search_on(connection: Connection, task_id: str, tried: list[str]) -> Claim:
    """Assign the slots of one more node, waiting for its row; `waiting` if there is none."""
    row, found = await _hold(connection, task_id)
    if row is None or found.over:
        return found
    gpu_id = await search.candidate(connection, row, tried, skip_locked=False)
    if gpu_id is None:
        return Claim.of(row.status, Found(waiting=True))
    granted = await assign.assign(connection, gpu_id)
    return Claim.of(row.status, Found().after(task_id, granted), gpu_id)


async def _hold(connection: Connection, task_id: str) -> tuple[_Task | None, Claim]:
    """Take the lock of the task's type, and read how the task is then."""
    row = await _read(connection, task_id)
    if row is not None and not _found(row).over:
        await locks.miss(connection, row.task_type)
        row = await _read(connection, task_id)
    return row, _found(row)


async def _read(connection: Connection, task_id: str) -> _Task | None:
    return await connection.one_or_none(_Task, _REQUEST, {"task_id": task_id})


def _found(row: _Task | None) -> Claim:
    """The claim that the row of a task and its last attempt show."""
    if row is None:
        return Claim()
    found = Claim(status=TaskStatus(row.status), cancelled=row.end_reason == EndReason.CANCELLED)
    if row.attempt is None or row.gpu_id is None:
        return replace(found, past=None if row.past is None else EndReason(row.past))
    last = Grant(row.attempt, row.gpu_id)
    if row.collected_at is not None:
        running = last if found.status in TERMINAL and row.may_run else None
        return replace(found, past=None if row.past is None else EndReason(row.past), running=running)
    return replace(found, settled=last) if row.closed_at is not None else replace(found, grant=last)

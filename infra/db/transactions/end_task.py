"""Ending a task from outside of its workflow: a cancel, its expiry, its deadline (ADR 0035).

The task ends and its open attempt is closed in one transaction; the attempt's token is dead from then on. Among these
ends, a result and a timeout, the first to commit wins. The workflow is notified afterwards; until then the task is
in `outbox_ends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.db import holding
from infra.db.connection import Connection
from infra.db.tasks import transitions as task_transitions
from infra.db.tasks.transitions import Cause
from infra.db.transactions import collect_attempt, settle_attempt
from infra.db.transactions.settle_attempt import SettleResult
from workflows.domain.attempt import End, Outcome
from workflows.domain.task import ENDS_AS, TERMINAL, EndReason, TaskStatus
from workflows.messages import Grant

_READ = f"""
    SELECT t.status, t.end_reason, t.attempts, a.gpu_id, a.outcome, a.collected_at, {holding.may_run("a")} AS may_run
      FROM tasks t LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
     WHERE t.task_id = %(task_id)s
    """
# A row that has moved since it was read is not locked: what follows takes the node's row, which comes before it.
_HOLD = (
    "SELECT true FROM tasks WHERE task_id = %(task_id)s AND status = %(status)s AND attempts = %(attempts)s FOR UPDATE"
)


@dataclass(frozen=True)
class TaskEnd:
    """Why a task ends: one of `FROM_OUTSIDE`. Users read `message` as errorMessage.

    `unless_started`: a task that has started is left alone. A task that has started never expires.
    """

    reason: EndReason
    actor: str
    message: str
    unless_started: bool = False

    @property
    def only_queued(self) -> bool:
        """Whether it ends only QUEUED tasks."""
        return self.unless_started or self.reason is EndReason.EXPIRED


@dataclass(frozen=True)
class EndResult:
    """A task's state after a request to end it; `status` None: there is no such task.

    `changed`: this call has ended it. `running`: its last attempt, where the node may still run that.
    """

    status: TaskStatus | None
    reason: str | None = None
    attempt: int = 0
    running: Grant | None = None
    changed: bool = False

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, by this call or before."""
        return self.reason == EndReason.CANCELLED


@dataclass(frozen=True)
class _Row:
    status: str
    end_reason: str | None
    attempts: int
    gpu_id: str | None  # of the last attempt, as the rest
    outcome: str | None
    collected_at: datetime | None
    may_run: bool

    @property
    def running(self) -> Grant | None:
        return Grant(self.attempts, self.gpu_id) if self.gpu_id is not None and self.may_run else None


async def end(connection: Connection, task_id: str, how: TaskEnd) -> EndResult:
    """End the task unless it has ended, or has started and `how` leaves it alone then. Repeating it changes nothing."""
    while (row := await connection.one_or_none(_Row, _READ, {"task_id": task_id})) is not None:
        status = TaskStatus(row.status)
        if status in TERMINAL or (how.only_queued and status is not TaskStatus.QUEUED):
            return EndResult(status, row.end_reason, row.attempts, row.running)
        if row.gpu_id is not None and row.outcome is None:
            if await _close(connection, task_id, row.attempts, how) is SettleResult.ACCEPTED:
                return EndResult(TaskStatus.PROCESSING, None, row.attempts)
        elif row.gpu_id is not None and row.collected_at is None:
            await collect_attempt.collect(connection, task_id, row.attempts)  # it may have ended with that
        elif await _hold(connection, task_id, status, row.attempts):
            return await _end(connection, task_id, row, how)
        # otherwise it has moved since it was read
    return EndResult(None)


async def end_waiting(connection: Connection, task_ids: Sequence[str], how: TaskEnd) -> list[str]:
    """End those of these tasks that wait for a slot, in one statement; the others need `end`. Returns which."""
    return await task_transitions.end_waiting(connection, task_ids, how.actor, how.message, how.reason)


async def _hold(connection: Connection, task_id: str, status: TaskStatus, attempts: int) -> bool:
    found = {"task_id": task_id, "status": status, "attempts": attempts}
    return await connection.one_or_none(bool, _HOLD, found) is not None


async def _close(connection: Connection, task_id: str, attempt: int, how: TaskEnd) -> SettleResult:
    """Close the open attempt. Its slot is held, so there is nothing to assign."""
    end = End(Outcome.TASK_ENDED, how.message)
    settled = await settle_attempt.settle(
        connection, task_id, attempt, end, actor=how.actor, unless_accepted=how.only_queued
    )
    if settled.answer is SettleResult.SETTLED:
        await collect_attempt.note(connection, task_id, attempt)
    return settled.answer


async def _end(connection: Connection, task_id: str, row: _Row, how: TaskEnd) -> EndResult:
    status = ENDS_AS[how.reason]
    gpu_id = row.gpu_id if row.outcome == Outcome.TASK_ENDED else None
    cause = Cause(task_id, row.attempts or None, gpu_id, how.actor, how.message)
    await task_transitions.end(connection, TaskStatus(row.status), status, cause, how.reason)
    return EndResult(status, how.reason, row.attempts, row.running, changed=True)

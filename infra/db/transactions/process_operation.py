"""Carrying out a bulk operation: what is changed and what is counted is one commit each time (ADR 0041).

So a page can be repeated from its beginning: tasks that were changed no longer fit, or lie before the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.slots.outlook import Outlook
from infra.db.tasks import operations
from infra.db.tasks.new_task import NewTask
from infra.db.tasks.operations import Operation, PagedTask
from infra.db.transactions import create_task, end_task
from infra.db.transactions.cancel_task import end_by
from infra.db.transactions.create_task import Created
from infra.db.transactions.end_task import EndResult, TaskEnd
from workflows.domain.errors import DomainError
from workflows.domain.task import TaskStatus


class HadItsTurn(DomainError):
    """该任务已处理"""


@dataclass(frozen=True)
class Room:
    """The state of the queue that a retry joins."""

    outlook: Outlook
    weight: float
    max_waiting: int | None
    claims_slot: bool


async def cancel_waiting(connection: Connection, operation: Operation, task_ids: Sequence[str]) -> list[str]:
    """Cancel those of these tasks that wait for a slot. Returns which."""
    ended = await end_task.end_waiting(connection, task_ids, _end(operation))
    await operations.count(connection, operation.operation_id, len(ended))
    return ended


async def cancel(connection: Connection, operation: Operation, task_id: str) -> EndResult:
    """Cancel one task, unless it has ended, or has started where the filter says QUEUED."""
    ended = await end_task.end(connection, task_id, _end(operation))
    if ended.changed:
        await operations.count(connection, operation.operation_id, 1)
    return ended


def _end(operation: Operation) -> TaskEnd:
    only_queued = operation.chosen.status is TaskStatus.QUEUED
    return end_by(operation.key_id, operation.reason, unless_started=only_queued)


async def retry(connection: Connection, operation: Operation, turn: PagedTask, task: NewTask, room: Room) -> Created:
    """Create the new task. Raises HadItsTurn, and what `create_task.create` raises: then nothing may be committed."""
    created = await create_task.create(
        connection,
        task,
        room.outlook,
        weight=room.weight,
        by=operation.by,
        max_waiting=room.max_waiting,
        claims_slot=room.claims_slot,
        audited=False,
    )
    if not await operations.pass_by(connection, operation.operation_id, turn.display_id, done=1):
        raise HadItsTurn
    return created


async def give_up(connection: Connection, operation: Operation, turn: PagedTask) -> None:
    """Count a task that can't be retried."""
    await operations.pass_by(connection, operation.operation_id, turn.display_id, failed=1)

"""Cancelling a task: by REST, or by a person who cancels its workflow."""

from __future__ import annotations

from infra.db.access import audit
from infra.db.access.audit import Action, Actor
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.transactions import end_task
from infra.db.transactions.end_task import EndResult, TaskEnd
from workflows.domain.errors import TaskNotFound
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import EndReason

BY_WORKFLOW = "任务已取消（在 Temporal 中取消工作流）"


async def cancel(connection: Connection, by: Caller, task_id: str, reason: str | None) -> EndResult:
    """Cancel a task for a caller, with an entry in the audit log. A task that has ended stays as it is.

    The entry of a repeated cancel says that it has changed nothing. Raises TaskNotFound.
    """
    ended = await end_task.end(connection, task_id, end_by(by.key_id, reason))
    if ended.status is None:
        raise TaskNotFound
    if ended.is_cancelled:
        await audit.record(connection, by, Action.TASK_CANCEL, task_id, reason or "", changed=ended.changed)
    return ended


def end_by(key_id: str, reason: str | None, *, unless_started: bool = False) -> TaskEnd:
    """The end of a task that a key cancels."""
    message = f"任务已取消：{reason}" if reason else "任务已取消"
    return TaskEnd(EndReason.CANCELLED, f"key:{key_id}", message, unless_started)


async def cancel_by_workflow(connection: Connection, task_id: str, run_id: str) -> EndResult:
    """Cancel a task whose workflow was asked to cancel, by a person unless the task has ended already."""
    ended = await end_task.end(connection, task_id, TaskEnd(EndReason.CANCELLED, SystemActor.PERSON, BY_WORKFLOW))
    if ended.changed:  # otherwise it heard of an earlier end
        by = Actor(f"{SystemActor.PERSON}:{run_id}", SystemActor.PERSON, None)
        await audit.record(connection, by, Action.TASK_CANCEL, task_id)
    return ended

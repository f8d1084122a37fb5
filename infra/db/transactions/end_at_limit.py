"""Ending tasks that are past a limit of their own (ADR 0037)."""

from __future__ import annotations

from collections.abc import Sequence

from infra.db.connection import Connection
from infra.db.transactions import end_task
from infra.db.transactions.end_task import EndResult, TaskEnd
from workflows.domain.task import EndReason

MESSAGES = {
    EndReason.EXPIRED: "任务已超过有效期，不再开始执行",
    EndReason.DEADLINE: "任务已超过截止时间",
}


async def end(connection: Connection, task_id: str, reason: EndReason, *, actor: str) -> EndResult:
    """End a task that is past the limit. One that has ended, or has started before it expired, stays as it is."""
    return await end_task.end(connection, task_id, TaskEnd(reason, actor, MESSAGES[reason]))


async def end_waiting(connection: Connection, task_ids: Sequence[str], reason: EndReason, *, actor: str) -> list[str]:
    """End those of the tasks that still wait for a slot. Returns which."""
    return await end_task.end_waiting(connection, task_ids, TaskEnd(reason, actor, MESSAGES[reason]))

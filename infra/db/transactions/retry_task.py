"""The task that a retry creates (ADR 0036): like the one that it repeats, and of the same owner."""

from __future__ import annotations

import hashlib
from dataclasses import fields

from infra import telemetry
from infra.db.access.callers import Caller
from infra.db.tasks.new_task import NewTask, TaskRequest, new_task_id
from infra.db.tasks.queries import Original
from workflows.domain.errors import NotInThisState
from workflows.domain.priority import queue_class
from workflows.domain.task import TaskStatus

_OF_SECRET = {"DISABLED": "任务的 webhook 密钥已停用，需要先通过 POST /webhooks/secret 重新生成"}
_FORGOTTEN = "任务的 webhook 密钥已删除，无法重试"
RETRIED = (TaskStatus.FAILED, TaskStatus.TIMEOUT)


def check(original: Original) -> None:
    """Check that the task can be retried. Raises NotInThisState."""
    if original.status not in RETRIED:
        raise NotInThisState(f"任务为 {original.status}，仅可重试 FAILED 或 TIMEOUT 的任务")
    if original.purged:
        raise NotInThisState("任务的 payload 已超过保留期，不再保存")
    if original.webhook is not None and original.webhook_state != "ACTIVE":
        raise NotInThisState(_OF_SECRET.get(original.webhook_state or "", _FORGOTTEN))


def again(task_id: str, original: Original, by: Caller, idempotency_key: str | None) -> NewTask:
    """The new task. `idempotency_key` is one of the task's lineage (`key_among`)."""
    taken_over = {one.name: getattr(original, one.name) for one in fields(TaskRequest)}
    return NewTask(
        **taken_over,
        task_id=new_task_id(),
        queue_class=queue_class(original.priority),
        traceparent=telemetry.trace_of_new(),
        lineage=original.lineage or by.lineage,
        idempotency_key=idempotency_key,
        request_hash=hashlib.sha256(f"retry {task_id}".encode()).hexdigest(),
        retry_of=task_id,
    )


def key_among(original: Original, by: Caller, idempotency_key: str | None) -> str | None:
    """The caller's Idempotency-Key among those of the task's lineage; no header can carry another lineage's."""
    if idempotency_key is None or original.lineage in (None, by.lineage):
        return idempotency_key
    return f"{by.lineage}\n{idempotency_key}"

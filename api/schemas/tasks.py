"""Reading tasks (§3.1 to §3.4): a task, its progress, its result, its timeline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from api.http.lists import Item
from api.schemas.fields import Long, Moment, Record, sample
from infra.db.slots.wait_estimate import wait_of
from workflows.domain.task import EndReason, TaskStatus

_UNKNOWN = "没有接收新任务的 ACTIVE 节点支持该任务类型时为 null"
EstimatedWait = Annotated[Long | None, Field(description=f"秒；{_UNKNOWN}")]
WAIT_OF_TASK = f"秒；{_UNKNOWN}。QUEUED 任务的详情中为当前的估计；列表中，以及开始执行之后，为创建时的估计"
StoredWait = Annotated[EstimatedWait, BeforeValidator(wait_of)]
PAYLOAD = '{"input": "image.jpg", "output": "result.jpg"}'


class TaskDO(Record):
    """任务信息; times in Unix milliseconds, `timeout` in milliseconds, `estimatedWaitTime` in seconds."""

    model_config = sample(
        taskId="task_123456789",
        displayId=1001,
        taskType=2,
        status="PROCESSING",
        userId="user_001",
        app="face_swap_app",
        priority=2,
        gpuId="gpu_001",
        payload=PAYLOAD,
        result=None,
        errorMessage=None,
        retryCount=0,
        maxRetries=3,
        timeout=300000,
        estimatedWaitTime=120,
        createdAt=1703123456789,
        startedAt=1703123460000,
        completedAt=None,
        updatedAt=1703123460000,
    )

    task_id: str
    display_id: Long
    task_type: int
    status: TaskStatus
    user_id: str
    app: str
    priority: int
    gpu_id: str | None
    payload: str | None = Field(description="列表响应过大时为 null，见 omitted")
    result: str | None
    error_message: str | None
    retry_count: int
    max_retries: int
    timeout_ms: Long = Field(alias="timeout")
    estimated_wait_s: StoredWait = Field(alias="estimatedWaitTime", description=WAIT_OF_TASK)
    created_at: Moment
    started_at: Moment | None
    completed_at: Moment | None
    updated_at: Moment
    end_reason: EndReason | None = Field(None, description="扩展：结束的原因，结束之前为 null")
    retry_of: str | None = Field(None, description="扩展：本任务所重试的任务")
    group_id: str | None = Field(None, description="扩展：所属的任务组")
    expires_at: Moment | None = Field(None, description="扩展：届时尚未开始执行则结束")
    deadline: Moment | None = Field(None, description="扩展：最迟届时结束")
    purged: bool = Field(False, description="扩展：payload 与 result 已超过保留期，不再保存，二者均为 null")
    omitted: list[Literal["payload", "result"]] | None = Field(
        None, description="扩展：仅在列表响应过大时出现，列出因此为 null 的字段；完整内容见任务详情"
    )

    @classmethod
    def listed(cls, row: Any) -> Item:
        """An entry of a list. A payload or result that the database has left out is too large."""
        payload = b"null" if row.purged else row.payload
        return cls.of(row).item(payload=payload, result=row.result if row.has_result else b"null")


class Waiting(BaseModel):
    """Extension of §3.3: why a task waits, with counts of nodes by what keeps each from taking it; times in ms and
    s."""

    model_config = sample(
        reason="12 nodes: 7 other type, 3 full, 2 draining",
        since=1703123456000,
        ahead=4,
        estimatedWaitTime=120,
        nodes=12,
        otherType=7,
        vipOnly=0,
        barred=0,
        full=3,
        free=0,
        faulty=0,
        offline=0,
        draining=2,
        backedOff=0,
    )

    reason: str
    since: Moment
    ahead: int
    estimatedWaitTime: EstimatedWait
    nodes: int
    otherType: int
    vipOnly: int
    barred: int
    full: int
    free: int
    faulty: int
    offline: int
    draining: int
    backedOff: int


class TaskProgress(BaseModel):
    """§3.3; `progress` in percent, `estimatedRemainingTime` in seconds."""

    model_config = sample(
        taskId="task_123456789",
        status="PROCESSING",
        progress=65,
        estimatedRemainingTime=120,
        gpuId="gpu_001",
        startTime=1703123460000,
        updateTime=1703123500000,
        queuePosition=0,
    )

    taskId: str
    status: TaskStatus
    progress: int
    estimatedRemainingTime: Annotated[
        Long | None, Field(description="秒；排队中且没有接收新任务的 ACTIVE 节点支持该任务类型时为 null")
    ]
    gpuId: str | None
    startTime: Moment | None
    updateTime: Moment
    queuePosition: int
    waiting: Waiting | None = Field(None, description="扩展：仅在任务等待空闲槽位期间出现")


class TaskResult(BaseModel):
    """§3.4; `result` is the node's report with the node's `gpuId`, null until the task has finished."""

    model_config = sample(
        taskId="task_123456789",
        status="COMPLETED",
        result={"resultImages": ["image/2025-01-15/result.jpg"], "processingTime": 180000, "gpuId": "gpu_001"},
        completedAt=1703123640000,
    )

    taskId: str
    status: TaskStatus
    result: dict[str, Any] | None
    completedAt: Long | None


EVENT = {
    "seq": 2,
    "from": "QUEUED",
    "to": "PROCESSING",
    "attempt": 1,
    "gpuId": "gpu_001",
    "actor": "gpu:gpu_001",
    "reason": None,
    "at": 1703123460000,
}


class TaskEvent(Record):
    """Extension: one entry of a task's timeline, with its actor and reason; `at` in Unix milliseconds.

    A transition, or a note of what the reconciler repaired: its `from` equals its `to`.
    """

    model_config = sample(**EVENT)

    seq: int
    from_status: TaskStatus | None = Field(alias="from")
    to_status: TaskStatus = Field(alias="to")
    attempt: int | None
    gpu_id: str | None
    actor: str
    reason: str | None
    at: Moment

"""Answers of §2: a GPU node."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from api.schemas.fields import Moment, Record, sample
from workflows.domain.gpu import GpuStatus, PriorityQueue

METADATA = {"gpuModel": "RTX 4090", "memory": "24GB", "cudaVersion": "11.8"}


class GpuSummary(Record):
    """A node without its metadata."""

    gpu_id: str
    hostname: str
    vast_ins_id: str | None
    ip: str
    port: int
    task_types: list[int] = Field(alias="supportedTaskTypes")
    priority_queue: PriorityQueue = Field(alias="supportedTaskPriority")
    status: GpuStatus
    last_beat: Annotated[Moment, BeforeValidator(lambda at: at or 0)] = Field(alias="lastHeartbeat")
    failure_count: int
    task_failure_count: int
    version: str
    current_tasks: int
    max_concurrent_tasks: int


class GpuNodeInfo(GpuSummary):
    """GPU节点信息; times in Unix milliseconds."""

    model_config = sample(
        gpuId="gpu_001",
        hostname="gpu-server-01",
        vastInsId=None,
        ip="192.168.1.100",
        port=8080,
        supportedTaskTypes=[2, 3, 4],
        supportedTaskPriority="VIP",
        status="ACTIVE",
        lastHeartbeat=1703123456789,
        failureCount=0,
        taskFailureCount=0,
        version="1.0.0",
        currentTasks=2,
        maxConcurrentTasks=4,
        metadata=METADATA,
    )

    metadata: dict[str, Any] | None = Field(description="列表响应过大时为空，见 omitted")
    omitted: list[Literal["metadata"]] | None = Field(
        None, description="扩展：仅在列表响应过大时出现，列出因此为 null 的字段；完整内容见该节点的信息"
    )

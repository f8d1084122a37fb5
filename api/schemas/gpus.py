"""Answers of §2: a GPU node."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.schemas.fields import Long, sample
from workflows.domain.gpu import GpuStatus, PriorityQueue

METADATA = {"gpuModel": "RTX 4090", "memory": "24GB", "cudaVersion": "11.8"}


class GpuNodeInfo(BaseModel):
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

    gpuId: str
    hostname: str
    vastInsId: str | None
    ip: str
    port: int
    supportedTaskTypes: list[int]
    supportedTaskPriority: PriorityQueue
    status: GpuStatus
    lastHeartbeat: Long
    failureCount: int
    taskFailureCount: int
    version: str
    currentTasks: int
    maxConcurrentTasks: int
    metadata: dict[str, Any] | None = Field(description="列表响应过大时为空，见 omitted")
    omitted: list[Literal["metadata"]] | None = Field(
        None, description="扩展：仅在列表响应过大时出现，列出因此为 null 的字段；完整内容见该节点的信息"
    )

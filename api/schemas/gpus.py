"""A GPU node (§2): its registration, and how it is answered."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from api.http.errors import refusal
from api.schemas.fields import DISTINCT, Deadline, GpuId, Int64, Long, Moment, Record, Request, sample
from api.schemas.params import Reason
from api.schemas.words import ONE_LINE
from workflows.domain.gpu import GpuStatus, PriorityQueue

METADATA = {"gpuModel": "RTX 4090", "memory": "24GB", "cudaVersion": "11.8"}
MAX_METADATA = 16 * 1024
"""Bytes of UTF-8."""
MAX_TASK_TYPES = 64


def _metadata_fits(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA:
        raise refusal("超过 16 KiB")
    return metadata


class RegisterGpu(Request):
    """§2.4, and `vastInsId` of the data model."""

    model_config = sample(
        gpuId="gpu_001",
        hostname="gpu-server-01",
        ip="192.168.1.100",
        port=8080,
        supportedTaskTypes=[2, 3, 4],
        supportedTaskPriority="VIP",
        version="1.0.0",
        maxConcurrentTasks=4,
        metadata=METADATA,
    )

    gpu_id: GpuId
    hostname: Annotated[str, Field(min_length=1, max_length=255), ONE_LINE]
    ip: Annotated[str, Field(min_length=1, max_length=45), ONE_LINE]
    port: Annotated[int, Field(ge=1, le=65535)]
    task_types: Annotated[
        list[Int64],
        Field(min_length=1, max_length=MAX_TASK_TYPES, alias="supportedTaskTypes"),
        DISTINCT,
    ]
    priority_queue: Annotated[PriorityQueue, Field(strict=False, alias="supportedTaskPriority")] = PriorityQueue.NORMAL
    version: Annotated[str, Field(max_length=64), ONE_LINE] = ""
    max_concurrent_tasks: Annotated[int, Field(ge=1, le=1024)] = 1
    metadata: Annotated[dict[str, Any], AfterValidator(_metadata_fits), ONE_LINE] = Field(
        default_factory=dict, description="以 UTF-8 计不超过 16 KiB"
    )
    vast_ins_id: Annotated[str, Field(max_length=128), ONE_LINE] | None = None
    dispatch_secret: Annotated[str, Field(max_length=256, pattern=r"^[!-~]+$")] | None = Field(
        None, description="扩展：派发任务时以 Authorization: Bearer 出示给节点的密钥"
    )


class DrainGpu(Request):
    """Extension."""

    model_config = sample(reason="更换风扇", deadline=4102444800000)

    reason: Reason
    deadline: Deadline | None = Field(None, description="Unix 毫秒，须晚于当前时间：届时仍在执行的任务被交回")


class Drain(Record):
    """`by` is the owner of the key that said so, or `temporal`."""

    by: str
    since: Moment
    reason: str
    deadline: Moment | None = Field(description="届时仍在执行的任务被交回；null 表示不限时")
    remaining: Long = Field(description="仍占用槽位的执行尝试数")


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
    draining: bool = Field(False, description="扩展：节点不再接收新任务；与 `status` 无关")
    drain: Drain | None = Field(None, description="扩展：仅在 draining 时不为 null")


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
        draining=False,
        drain=None,
        metadata=METADATA,
    )

    metadata: dict[str, Any] | None = Field(description="列表响应过大时为 null，见 omitted")
    omitted: list[Literal["metadata"]] | None = Field(
        None, description="扩展：仅在列表响应过大时出现，列出因此为 null 的字段；完整内容见该节点的信息"
    )

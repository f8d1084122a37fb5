"""Requests: the bodies of the specification, field for field and in its order (请求体)."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic.alias_generators import to_camel

from api.http.errors import refusal
from api.schemas.fields import GpuId, Int64, Name, sample
from api.schemas.gpus import METADATA
from api.schemas.tasks import PAYLOAD
from api.schemas.words import ONE_LINE
from workflows.domain.gpu import PriorityQueue
from workflows.domain.limits import MAX_RETRIES, MAX_TIMEOUT_MS
from workflows.domain.priority import DEFAULT_PRIORITY
from workflows.domain.task import TaskStatus

MAX_PAYLOAD = 256 * 1024
MAX_METADATA = 16 * 1024
"""Bytes of UTF-8."""
MAX_TASK_TYPES = 64
"""Of a node."""
MAX_MESSAGE = 4096
"""Characters."""

Milliseconds = Annotated[int, Field(gt=0, le=MAX_TIMEOUT_MS, json_schema_extra={"format": "int64"})]


def _payload_fits(payload: str) -> str:
    if len(payload.encode()) > MAX_PAYLOAD:
        raise refusal("超过 256 KiB")
    return payload


def _metadata_fits(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA:
        raise refusal("超过 16 KiB")
    return metadata


def _shortened(message: str) -> str:
    if len(message) <= MAX_MESSAGE:
        return message
    half = MAX_MESSAGE // 2
    return f"{message[: half - 1]}…{message[-half:]}"


def _only_failed(rejected: bool, info: ValidationInfo) -> bool:
    if rejected and info.data.get("status", TaskStatus.FAILED) is not TaskStatus.FAILED:
        raise refusal("仅可与 FAILED 同用")
    return rejected


def _distinct(task_types: list[int]) -> list[int]:
    return list(dict.fromkeys(task_types))


class Request(BaseModel):
    """Types are taken as sent, never converted; a field that the specification does not know is ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel)


class CreateTask(Request):
    """§3.5."""

    model_config = sample(taskType=2, userId="user_001", app="face_swap_app", priority=2, payload=PAYLOAD, env="prod")

    task_type: Int64
    user_id: Name
    app: Name
    priority: Int64 = DEFAULT_PRIORITY
    payload: Annotated[str, AfterValidator(_payload_fits), Field(description="UTF-8 不超过 256 KiB")]
    env: Annotated[str, Field(max_length=64), ONE_LINE] | None = None
    timeout: Milliseconds | None = Field(None, description="扩展：每次执行尝试的时限，毫秒")
    max_retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] | None = Field(None, description="扩展：最大重试次数")


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
        AfterValidator(_distinct),
    ]
    priority_queue: Annotated[PriorityQueue, Field(strict=False, alias="supportedTaskPriority")] = PriorityQueue.NORMAL
    version: Annotated[str, Field(max_length=64), ONE_LINE] = ""
    max_concurrent_tasks: Annotated[int, Field(ge=1, le=1024)] = 1
    metadata: Annotated[dict[str, Any], AfterValidator(_metadata_fits), ONE_LINE] = Field(
        default_factory=dict, description="UTF-8 不超过 16 KiB"
    )
    vast_ins_id: Annotated[str, Field(max_length=128), ONE_LINE] | None = None
    dispatch_secret: Annotated[str, Field(max_length=256, pattern=r"^[!-~]+$")] | None = Field(
        None, description="扩展：派发任务时以 Authorization: Bearer 出示给节点的密钥"
    )


class UpdateStatus(Request):
    """§3.6.

    A `message` of more than 4096 characters is cut in the middle, never refused: a traceback must not cost the node its
    report, and its two ends say the most.
    """

    model_config = sample(status="PROCESSING", gpuId="gpu_001", message="任务开始执行")

    status: Annotated[TaskStatus, Field(strict=False)] = Field(
        description="PROCESSING 正在执行，FAILED 本次尝试失败，QUEUED 未执行而交回；"
        "COMPLETED 由结果上报产生，TIMEOUT 由系统判定"
    )
    gpu_id: GpuId
    message: Annotated[str, AfterValidator(_shortened)] | None = Field(
        None, description="超过 4096 个字符时保留首尾、截去中间，不会因此被拒绝"
    )
    progress: Annotated[int, Field(ge=0, le=100)] | None = Field(None, description="扩展：执行进度，百分比")
    rejected: Annotated[bool, AfterValidator(_only_failed)] | None = Field(
        None,
        description="扩展：仅可与 FAILED 同用，true 表示输入本身无效；不消耗重试次数，另一节点也拒绝时任务失败",
        examples=[True],
    )


class UpdateResult(Request):
    """§3.7: `result` is a JSON text."""

    model_config = sample(result='{"resultImages": ["image/2025-01-15/result.jpg"], "processingTime": 180000}')

    result: str

"""Reports of nodes on their attempts (§3.6, §3.7)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from api.http.errors import refusal
from api.schemas.fields import GpuId, Request, sample
from workflows.domain.task import TaskStatus

MAX_MESSAGE = 4096
"""Characters."""


def _shortened(message: str) -> str:
    if len(message) <= MAX_MESSAGE:
        return message
    half = MAX_MESSAGE // 2
    return f"{message[: half - 1]}…{message[-half:]}"


def _only_failed(rejected: bool, info: ValidationInfo) -> bool:
    if rejected and info.data.get("status", TaskStatus.FAILED) is not TaskStatus.FAILED:
        raise refusal("仅可与 FAILED 同用")
    return rejected


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

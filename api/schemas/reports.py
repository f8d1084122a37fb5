"""Reports of nodes on their attempts (§3.6, §3.7)."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_core import from_json

from api.http.errors import refusal
from api.schemas.fields import GpuId, Request, sample
from infra.json import strict_json
from workflows.domain.task import TaskStatus

MAX_MESSAGE = 4096
"""Characters."""
START = 64 * 1024
"""Bytes that are read of a refused body which is too large or too complex."""

_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_UNREADABLE = re.compile(rf"(\\\\|{_PAIR})|\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{{2}})|[\x00-\x1f]")
"""A character that parsers or tables refuse; or, as group 1, escapes that only look like one."""


def _shortened(message: str) -> str:
    if len(message) <= MAX_MESSAGE:
        return message
    half = MAX_MESSAGE // 2
    return f"{message[: half - 1]}…{message[-half:]}"


def _readable(message: Any) -> str | None:
    """The message without the characters that cannot be stored."""
    return _shortened(strict_json.UNSTORABLE.sub("", message)) if isinstance(message, str) else None


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
        description="PROCESSING 正在执行，FAILED 本次执行尝试失败，QUEUED 未执行而交回；"
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


class RefusedStatus(Request):
    """The readable part of a refused body of `UpdateStatus`, whatever else is wrong with it."""

    status: Annotated[TaskStatus, Field(strict=False)]
    gpu_id: GpuId | None = None
    message: Annotated[Any, AfterValidator(_readable)] = None
    rejected: Annotated[Any, AfterValidator(lambda said: said is True)] = False

    @classmethod
    def of(cls, body: bytes, *, whole: bool) -> Self | None:
        """The readable part, or None without a status. Only the start is read of a body that is not `whole`."""
        try:
            return cls.model_validate(_lenient(body) if whole else _start_of(body[:START]))
        except (ValueError, RecursionError):
            return None


def _lenient(body: bytes) -> Any:
    """A body with values that cannot be stored."""
    return json.loads(body.decode(errors="ignore"), strict=False, parse_int=strict_json.int64_or_beyond)


def _start_of(body: bytes) -> Any:
    """A body that is cut off."""
    text = body.decode(errors="ignore")
    return from_json(_UNREADABLE.sub(r"\1", text), allow_partial="trailing-strings")


class UpdateResult(Request):
    """§3.7: `result` is a JSON text."""

    model_config = sample(result='{"resultImages": ["image/2025-01-15/result.jpg"], "processingTime": 180000}')

    result: str

"""Creating a task (§3.5): request and response."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, Field

from api.http.errors import refusal
from api.schemas.fields import GroupId, Int64, Long, Name, Record, Request, UnixMs, sample
from api.schemas.receivers import Url
from api.schemas.tasks import PAYLOAD, StoredWait
from api.schemas.words import ONE_LINE
from workflows.domain.limits import MAX_EXPIRES_MS, MAX_RETRIES, MAX_TIMEOUT_MS, MAX_WAIT_S
from workflows.domain.priority import DEFAULT_PRIORITY
from workflows.domain.task import TaskStatus

MAX_PAYLOAD = 256 * 1024
"""Bytes of UTF-8."""

_LATER = frozenset({"expiresIn", "deadline", "maxWait", "groupId", "webhook"})
"""Fields that earlier versions did not know. Left out where not given, so that a key used with an earlier version still
means the same body."""

Milliseconds = Annotated[int, Field(gt=0, le=MAX_TIMEOUT_MS, json_schema_extra={"format": "int64"})]


def _payload_fits(payload: str) -> str:
    if len(payload.encode()) > MAX_PAYLOAD:
        raise refusal("超过 256 KiB")
    return payload


class CreateTask(Request):
    """The body, field for field and in the order of the specification (请求体)."""

    model_config = sample(taskType=2, userId="user_001", app="face_swap_app", priority=2, payload=PAYLOAD, env="prod")

    task_type: Int64
    user_id: Name
    app: Name
    priority: Int64 = DEFAULT_PRIORITY
    payload: Annotated[str, AfterValidator(_payload_fits), Field(description="以 UTF-8 计不超过 256 KiB")]
    env: Annotated[str, Field(max_length=64), ONE_LINE] | None = None
    timeout: Milliseconds | None = Field(None, description="扩展：每次执行尝试的时限，毫秒")
    max_retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] | None = Field(None, description="扩展：最大重试次数")
    expires_in: Annotated[int, Field(ge=1, le=MAX_EXPIRES_MS, json_schema_extra={"format": "int64"})] | None = Field(
        None,
        description="扩展：有效期，毫秒，自创建时起算；届时未在执行的任务以 TIMEOUT 结束，`endReason` 为 EXPIRED",
        examples=[60000],
    )
    deadline: UnixMs | None = Field(
        None,
        description="扩展：截止时间，Unix 毫秒，须晚于当前时间；届时未结束的任务（包括执行中的）以 TIMEOUT 结束，"
        "`endReason` 为 DEADLINE",
        examples=[4102444800000],
    )
    webhook: Url | None = Field(
        None,
        description="扩展：接收该任务 `task.ended` 事件的 URL，以 `POST /webhooks/secret` 生成的密钥签名；"
        "须先生成密钥。规则与 `POST /webhooks` 的 `url` 相同",
        examples=["https://example.com/hooks/task"],
    )
    max_wait: Annotated[int, Field(ge=0, le=MAX_WAIT_S)] | None = Field(
        None,
        description="扩展：可接受的最长预估等待时间，秒；超过或无法估计时不创建任务，返回 429 和 `Retry-After`；"
        "0 表示仅在当前有空闲槽位时创建",
        examples=[30],
    )
    group_id: GroupId | None = Field(None, description="扩展：所属的任务组", examples=["group_2026"])

    def canonical_json(self) -> bytes:
        """The body as canonical JSON. A field of `_LATER` counts only where it is given."""
        given = self.model_dump(mode="json", by_alias=True).items()
        return json.dumps({k: v for k, v in given if v is not None or k not in _LATER}, sort_keys=True).encode()


class TaskCreated(Record):
    """The answer; `estimatedWaitTime` in seconds."""

    model_config = sample(taskId="task_123456789", displayId=1001, status="QUEUED", estimatedWaitTime=120)

    task_id: str
    display_id: Long
    status: TaskStatus
    estimated_wait_s: StoredWait = Field(alias="estimatedWaitTime")
    result: str | None = Field(None, description="扩展：仅在以 `Prefer: wait` 等待后出现；结束前为 null")
    error_message: str | None = Field(None, description="扩展：同上")

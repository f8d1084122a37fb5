"""Values in a path, a query or a header, read as strictly as a body (INVARIANTS, "Answers to bad input")."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Path
from pydantic import AfterValidator, BeforeValidator, Field

from api.http.errors import refusal
from api.schemas.fields import INT64_SCHEMA
from api.schemas.words import ONE_LINE, ONE_LINE_HEADER, HeaderLine, Line
from infra.json.strict_json import INT64
from workflows.domain.limits import LAST_MS, MAX_REASON


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or int(text) not in INT64:
        raise refusal("必须是整数")
    return int(text)


Integer = Annotated[int, BeforeValidator(_integer), Field(json_schema_extra=INT64_SCHEMA)]
"""A 64-bit integer in ASCII digits."""

Millisecond = Annotated[int, Field(ge=1, le=LAST_MS, json_schema_extra={"format": "int64"}), BeforeValidator(_integer)]
"""A time in Unix milliseconds."""

TaskId = Annotated[Line, Path(alias="taskId", description="任务ID")]
NodeId = Annotated[Line, Path(alias="gpuId", description="GPU ID")]
GroupName = Annotated[Line, Path(alias="groupId", description="任务组ID")]
OperationId = Annotated[Line, Path(alias="operationId", description="批量操作ID")]
AlertId = Annotated[Line, Path(alias="alertId", description="告警ID")]


def _worded(text: str) -> str:
    if not text.strip():
        raise refusal("不能为空")
    return text


Reason = Annotated[str, Field(min_length=1, max_length=MAX_REASON), ONE_LINE, AfterValidator(_worded)]
"""A text that is not blank."""

_Key = Annotated[str, Field(min_length=1, max_length=255), ONE_LINE_HEADER, AfterValidator(_worded)]
IdempotencyKey = Annotated[
    _Key | None,
    Header(
        alias="Idempotency-Key",
        description="扩展（可选）：相同的键和请求体得到同一任务（或批量操作），请求体不同则返回 400",
    ),
]
"""An empty key is refused: a caller that sends one expects protection, and would get none."""

AttemptToken = Annotated[
    HeaderLine | None,
    Header(
        alias="X-Attempt-Token",
        description="扩展（可选）：派发时收到的令牌，指明上报的是哪一次执行尝试；缺省时，仅当任务当前的执行尝试由该节点持有，且该密钥未持有过该任务的其他执行尝试时才有效",
    ),
]

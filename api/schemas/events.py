"""Events: which are asked for, and how one is shown (extension)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import Header, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from api.http.errors import refusal
from api.http.paging import up_to
from api.schemas.fields import Long, sample
from infra.db.ops import event_log
from infra.db.ops.event_log import CURSOR, BadCursor, Cursor, Event
from workflows.domain.event import RESET, EventType

NOW = "now"
"""The cursor after all that has happened so far."""

_EXAMPLE = "evt_5f0c2a91_2f81_1c04"


class EventDO(BaseModel):
    """An event; `time` in Unix milliseconds. It names only the ids that it is about."""

    model_config = sample(
        id=_EXAMPLE,
        type="task.ended",
        time=1703123456789,
        taskId="task_123456789",
        gpuId="gpu_001",
        data={"seq": 3, "status": "COMPLETED", "attempt": 1, "taskType": 2, "endReason": "COMPLETED"},
    )

    id: str
    type: EventType | Literal["reset"]
    time: Long
    taskId: str | None = None
    gpuId: str | None = None
    alertId: str | None = None
    data: dict[str, Any]


def shown(event: Event, cursor: Cursor) -> bytes:
    """An event as JSON."""
    about = {"task_id": event.task_id, "gpu_id": event.gpu_id, "alert_id": event.alert_id}
    return event_log.encoded(str(cursor), event.type, event.at, event.data, **about)


def reset(beginning: Cursor, time_ms: int) -> bytes:
    """The event that says that a cursor is unknown here, or too old; everything that is kept follows it."""
    return msgspec.json.encode({"id": str(beginning), "type": RESET, "time": time_ms, "data": {}})


def cursor_of(text: str) -> Cursor:
    """A cursor from a caller. Raises as a validator does."""
    try:
        return Cursor.of(text)
    except BadCursor:
        raise refusal("不是有效的事件ID") from None


def _after(text: str) -> str:
    if text != NOW:
        cursor_of(text)
    return text


def _types(text: str) -> str:
    if not set(text.split(",")) <= set(EventType):
        raise refusal("含有未知的事件类型")
    return text


_TYPE = "|".join(EventType).replace(".", r"\.")
_After = Annotated[str, AfterValidator(_after), Field(json_schema_extra={"pattern": f"^({NOW}|{CURSOR})$"})]
_Types = Annotated[str, AfterValidator(_types), Field(json_schema_extra={"pattern": f"^({_TYPE})(,({_TYPE}))*$"})]
_Id = Annotated[
    str, AfterValidator(lambda text: str(cursor_of(text))), Field(json_schema_extra={"pattern": f"^{CURSOR}$"})
]
After = Annotated[
    _After | None,
    Query(description="从该事件之后开始；缺省为保留的最早事件，`now` 为当前时刻", examples=[_EXAMPLE]),
]
Types = Annotated[
    _Types | None, Query(description="事件类型，逗号分隔；缺省为全部", examples=["task.ended,node.offline"])
]
LastEventId = Annotated[
    _Id | None,
    Header(alias="Last-Event-ID", description="收到的最后一个事件的 `id`，从其后继续；优先于 `after`"),
]
Limit = Annotated[
    int,
    Field(ge=1, le=event_log.MOST),
    BeforeValidator(up_to(event_log.MOST)),
    Query(description="最多返回的事件数"),
]


def types_of(types: str | None) -> list[EventType] | None:
    """The types that `Types` names, each once."""
    return None if types is None else list(dict.fromkeys(map(EventType, types.split(","))))

"""Server-sent events: all events from a cursor on, or those of one task (ADR 0042)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing

from fastapi import APIRouter, Request
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.dependencies import Context, ContextOf
from api.http.errors import TooManyRequests
from api.middleware.authentication import CallerOf
from api.middleware.in_flight import turn_of
from api.middleware.methods import is_head
from api.routes import access
from api.routes.events import read, start, whose
from api.routes.task_stream import frames_of_task
from api.schemas import events
from api.schemas.events import After, LastEventId, Types
from api.schemas.params import TaskId
from infra.db.access.callers import Caller
from infra.db.ops import event_log
from infra.db.ops.event_log import Cursor, Event, Page
from infra.db.session import is_unavailable
from infra.db.tasks import queries as task_queries
from infra.events.allowance import Allowance, Spent
from infra.events.hub import Handed, Subscription, topics_of
from infra.nodes.beats import now_ms
from workflows.domain.errors import DomainError
from workflows.domain.role import Role

router = APIRouter(tags=["事件"])

AT_ONCE = {Role.USER: 256}
"""Streams of a user's keys in one process. Operators are bounded only by the process."""
PING_S = 15.0
BEGINS = {"X-Next-Cursor": {"description": "流的起点，重置时没有", "required": False, "schema": {"type": "string"}}}


class Stream(StreamingResponse):
    """A stream. It holds no turn of its caller's calls, and gives its place back at the end.

    FastAPI's own response encodes each event by itself, through two more tasks and two queues; here all that has come
    together is sent together.
    """

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncGenerator[bytes], place: ExitStack, headers: Mapping[str, str] | None = None
    ) -> None:
        self._frames = _while_there(frames)
        super().__init__(
            self._frames, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})}
        )
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.close()
            await self._frames.aclose()


@router.get(
    "/stream",
    response_class=Stream,
    status_code=200,
    summary="扩展 订阅事件",
    description="以 server-sent events 推送 `GET /events` 的事件：`id` 为事件ID，`event` 为类型，`data` 为同样的JSON；"
    "断线后以 `Last-Event-ID` 继续；尚未收到 `id` 时，以响应头 `X-Next-Cursor` 继续。"
    "每 15 秒有一行注释。同时打开的流过多时返回 429。",
    responses={200: {"headers": BEGINS}},
)
async def stream(
    request: Request,
    context: ContextOf,
    caller: CallerOf,
    after: After = None,
    types: Types = None,
    last_event_id: LastEventId = None,
) -> Stream:
    place = _take(context.streams, caller)
    try:
        first = await read(context, caller, await start(context, last_event_id or after), types)
    except BaseException:
        place.close()
        raise
    # A reader without an event id resumes here: `after=now` would then be a later moment. After a reset it asks again.
    begins = {} if first.is_reset else {"X-Next-Cursor": str(first.since)}
    return _opened(request, _frames(context, caller, types, first), place, begins)


@router.get(
    "/tasks/{taskId}/stream",
    response_class=Stream,
    status_code=200,
    summary="扩展 订阅任务",
    description="先推送 `snapshot`（任务详情，不含 payload 与 result），之后是任务的 `status`，"
    "以及至多每秒一次的 `attempt`、`place`、`progress`；任务结束时推送 `end` 并关闭。"
    "以 `Last-Event-ID` 继续时没有 `snapshot`，不会遗漏也不会重复。",
)
async def task_stream(
    request: Request, context: ContextOf, caller: CallerOf, task_id: TaskId, last_event_id: LastEventId = None
) -> Stream:
    await access.read_task(context, caller, task_id, task_queries.owner)
    after = None if last_event_id is None else Cursor.of(last_event_id)
    place = _take(context.streams, caller)
    return _opened(request, frames_of_task(context, caller, task_id, after, PING_S), place)


def _take(streams: Allowance, caller: Caller) -> ExitStack:
    """A place among the open streams. Raises TooManyRequests."""
    try:
        return streams.take(caller.lineage, AT_ONCE.get(caller.role))
    except Spent:
        raise TooManyRequests(message="同时打开的事件流过多，请稍后重试") from None


def _opened(
    request: Request, frames: AsyncGenerator[bytes], place: ExitStack, headers: Mapping[str, str] | None = None
) -> Stream:
    turn_of(request).give_back()
    return Stream(_nothing() if is_head(request.scope) else frames, place, headers)


async def _while_there(frames: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The frames, until the database is away: then the stream ends, and its reader comes again."""
    async with aclosing(frames):
        try:
            async for frame in frames:
                yield frame
        except Exception as error:
            if not (is_unavailable(error) or isinstance(error, DomainError)):
                raise


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""


async def _frames(context: Context, caller: Caller, types: str | None, page: Page) -> AsyncGenerator[bytes]:
    """Yield the events of the log, then each new one as it happens."""
    subscription = context.hub.subscribe(topics_of(whose(caller)), caller.key_id, events.types_of(types))
    async with subscription:
        if page.is_reset:
            body = events.reset(page.since, now_ms())
            yield format_sse_event(data_str=body.decode(), event="reset", id=str(page.since))
        listens = False
        while not subscription.is_ended:
            if page.events:
                yield b"".join(_frame(page.of(one), one) for one in page.events)
            if len(page.events) < event_log.MOST:
                if listens:
                    break
                subscription.listen()
                listens = True
            page = await read(context, caller, page.until, types)
            if page.is_reset:
                return  # what comes next is forgotten: the reader comes again with its cursor, and gets `reset`
        subscription.begins_behind(page.until)
        async for frame in _live(subscription):
            yield frame


async def _live(subscription: Subscription) -> AsyncGenerator[bytes]:
    while not subscription.is_ended:
        found = await subscription.next(PING_S)
        if not subscription.is_ended:
            yield b"".join(map(_shared_frame, found)) or _ping(subscription.taken)


def _ping(cursor: Cursor | None) -> bytes:
    """A comment, with the id to resume after: without one, a stream without events would lose its place in the log."""
    return format_sse_event(comment="ping", id=None if cursor is None else str(cursor))


def _shared_frame(one: Handed) -> bytes:
    """The frame of an event, encoded once for all streams."""
    if "" not in one.frames:
        one.frames[""] = _frame(one.cursor, one.event)
    return one.frames[""]


def _frame(cursor: Cursor, event: Event) -> bytes:
    return format_sse_event(data_str=events.shown(event, cursor).decode(), event=event.type, id=str(cursor))

"""The stream of one task: a snapshot, what happens to it, its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from api.dependencies import Context
from api.schemas import events
from api.schemas.tasks import TaskDO
from infra.db.access.callers import Caller
from infra.db.ops import event_log
from infra.db.ops.event_log import Cursor, Event, Page
from infra.db.tasks import queries as task_queries
from infra.db.tasks.queries import Snapshot
from infra.events.gauges import Watch
from infra.events.hub import Subscription
from workflows.domain.errors import TaskNotFound
from workflows.domain.event import EventType


@dataclass(frozen=True)
class _Beginning:
    """The first messages of a stream, and the cursor after them. `is_over`: the task has ended, and no more come."""

    frames: bytes
    until: Cursor
    is_over: bool


async def frames_of_task(
    context: Context, caller: Caller, task_id: str, after: Cursor | None, ping_s: float
) -> AsyncGenerator[bytes]:
    """The messages of a task's stream: those after the cursor `after` if it is valid here, or from a snapshot on."""
    subscription = context.hub.subscribe([("task", task_id)], caller.key_id)
    async with subscription:
        subscription.listen()
        page = await _page(context, task_id, after)
        while after is not None and not page.is_reset and len(page.events) == event_log.MOST:
            yield b"".join(_status(page.of(one), one) for one in page.events)
            page = await _page(context, task_id, page.until)
        row = await _row(context, task_id)
        begun = _resumed(page, row) if after is not None and not page.is_reset else _begun(page.since, row)
        if begun.frames:
            yield begun.frames
        if begun.is_over:
            yield _message("end", _shown(row))
            return
        subscription.begins_behind(begun.until)
        with context.gauges.watch(task_id, subscription) as watch:
            async for frames in _live(context, subscription, watch, ping_s):
                yield frames


async def _live(context: Context, subscription: Subscription, watch: Watch, ping_s: float) -> AsyncGenerator[bytes]:
    while not subscription.is_ended:
        found = await subscription.next(ping_s)
        news = watch.take()
        if subscription.is_ended:
            return
        if any(one.event.type == EventType.TASK_ENDED for one in found):
            end = _message("end", _shown(await _row(context, watch.task_id)))
            yield b"".join(_status(one.cursor, one.event) for one in found) + end
            return
        frames = [_status(one.cursor, one.event) for one in found]
        frames += [_message(kind, msgspec.json.encode(value)) for kind, value in news.items()]
        yield b"".join(frames) or KEEPALIVE_COMMENT


def _resumed(page: Page, row: Snapshot) -> _Beginning:
    frames = b"".join(_status(page.of(one), one) for one in page.events)
    last = None if row.xid is None or row.id is None else (row.xid, row.id)
    is_over = row.completed_at is not None and (last is None or last <= (page.until.xid, page.until.id))
    return _Beginning(frames, page.until, is_over)


def _begun(log: Cursor, row: Snapshot) -> _Beginning:
    cursor = None if row.xid is None or row.id is None else Cursor(log.log, row.xid, row.id)
    return _Beginning(_message("snapshot", _shown(row), cursor), cursor or log, row.completed_at is not None)


async def _page(context: Context, task_id: str, after: Cursor | None) -> Page:
    return await context.database.single(lambda c: event_log.read_task(c, task_id, after))


async def _row(context: Context, task_id: str) -> Snapshot:
    row = await context.database.single(lambda c: task_queries.snapshot(c, task_id))
    if row is None:
        raise TaskNotFound  # it has just been forgotten
    return await context.forecast.with_wait(row)


def _shown(row: Snapshot) -> bytes:
    """The task without payload and result."""
    return TaskDO.of(row).model_copy(update={"omitted": ["payload", "result"]}).model_dump_json(by_alias=True).encode()


def _status(cursor: Cursor, event: Event) -> bytes:
    return _message("status", events.shown(event, cursor), cursor)


def _message(name: str, data: bytes, cursor: Cursor | None = None) -> bytes:
    return format_sse_event(data_str=data.decode(), event=name, id=None if cursor is None else str(cursor))

"""Events: what has happened, from a cursor on (ADR 0039)."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response

from api.dependencies import Context, ContextOf
from api.http import lists
from api.http.envelope import Envelope
from api.http.lists import Item
from api.middleware.authentication import CallerOf
from api.schemas import events
from api.schemas.events import NOW, After, EventDO, Limit, Types
from infra.db.access.callers import Caller
from infra.db.ops import event_log
from infra.db.ops.event_log import Cursor, Page, Whose
from infra.nodes.beats import now_ms
from workflows.domain.role import Role

router = APIRouter(tags=["事件"])

NEXT = {"X-Next-Cursor": {"description": "下一页的 `after`", "schema": {"type": "string"}}}


@router.get(
    "/events",
    response_model=Envelope[list[EventDO]],
    summary="扩展 获取事件",
    description="任务、节点和告警的事件，按发生顺序排列，自 `after` 之后开始；用户仅可见自己任务的事件。"
    "继续读取时将 `X-Next-Cursor` 作为 `after`，不会遗漏也不会重复。游标早于保留期限或属于另一个数据库时，"
    "首个事件的类型为 `reset`，其后是保留的全部事件。",
    responses={200: {"headers": NEXT}},
)
async def list_events(
    context: ContextOf, caller: CallerOf, after: After = None, types: Types = None, limit: Limit = 100
) -> Response:
    page = await read(context, caller, await start(context, after), types, limit)
    items = [Item(events.shown(one, page.of(one)), {}) for one in page.events[: limit - page.is_reset]]
    until = page.until if len(items) == len(page.events) else _before_last(page)
    if page.is_reset:
        items.insert(0, Item(events.reset(page.since, now_ms()), {}))
    return await lists.answer(items, {"X-Next-Cursor": str(until)})


def whose(caller: Caller) -> Whose | None:
    """The user whose tasks a caller sees, or None for all tasks."""
    return Whose(caller.owner, caller.lineage) if caller.role is Role.USER else None


async def start(context: Context, after: str | None) -> Cursor | None:
    """The cursor that `After` means."""
    if after == NOW:
        return await context.database.single(event_log.now)
    return None if after is None else Cursor.of(after)


async def read(
    context: Context, caller: Caller, after: Cursor | None, types: str | None, limit: int = event_log.MOST
) -> Page:
    """A page of what a caller may see."""
    asked = partial(event_log.read, after=after, limit=limit, types=events.types_of(types), whose=whose(caller))
    return await context.database.single(asked)


def _before_last(page: Page) -> Cursor:
    """The cursor of a page whose last event gave its room to a reset."""
    return page.of(page.events[-2]) if len(page.events) > 1 else page.since

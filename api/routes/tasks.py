"""Reading tasks (specification §3.1 to §3.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from api.dependencies import ContextOf
from api.http import lists
from api.http.envelope import JSON, Envelope, ok
from api.http.lists import FITTING, MAX_ANSWER
from api.http.paging import EXACT, INEXACT, WHOLE, PageOf, WholeOrPageOf
from api.middleware.authentication import CallerOf
from api.routes import access, waiting
from api.routes.waiting import Prefer
from api.schemas import task_progress, task_result
from api.schemas.params import TaskId
from api.schemas.task_filter import FilterOf
from api.schemas.tasks import TaskDO, TaskEvent, TaskProgress, TaskResult
from infra.db.tasks import lists as task_lists
from infra.db.tasks import queries as task_queries
from infra.db.tasks import timeline
from infra.db.tasks.lists import MOST_COUNTED
from infra.json.off_loop import off_loop

router = APIRouter(prefix="/tasks", tags=["任务管理"])

OLDER = "，更早的任务请用 createdBefore 获取"


@router.get(
    "",
    response_model=Envelope[list[TaskDO]],
    summary="3.1 获取任务列表",
    description=FITTING
    + f"扩展：按 `app`、`groupId`、`endReason`、创建时间过滤时，总数超过 {MOST_COUNTED} 则 `X-Total-Count` 为 "
    f"{MOST_COUNTED}，`X-Total-Count-Exact` 为 false，且最多翻至第 {MOST_COUNTED} 项，此后的页返回 400；"
    "更早的任务可用 `createdBefore` 获取。",
    responses={200: {"headers": INEXACT}},
)
async def list_tasks(
    request: Request, context: ContextOf, caller: CallerOf, page: PageOf, chosen: FilterOf
) -> Response:
    chosen = replace(chosen, owner=access.owner_seen_by(caller))
    rows, total = await context.database.run(
        lambda c: task_lists.page(c, chosen, limit=page.limit, offset=page.offset, room=MAX_ANSWER)
    )
    items = [TaskDO.listed(row) for row in rows]
    if total > MOST_COUNTED and chosen.kept is None:
        return await lists.answer(items, page.headers_of_many(request, MOST_COUNTED, OLDER))
    return await lists.answer(items, {EXACT: "true"} | page.headers(request, total))


@router.get("/{taskId}", response_model=Envelope[TaskDO], response_model_exclude_unset=True, summary="3.2 获取任务详情")
async def get_task(context: ContextOf, caller: CallerOf, task_id: TaskId) -> dict[str, Any]:
    task = await access.read_task(context, caller, task_id, task_queries.get)
    return ok(TaskDO.of(await context.forecast.with_wait(task)))


@router.get(
    "/{taskId}/progress",
    response_model=Envelope[TaskProgress],
    response_model_exclude_unset=True,
    summary="3.3 获取任务进度",
    description="扩展：任务等待空闲槽位期间另有 `waiting`，说明在等什么。",
)
async def get_progress(context: ContextOf, caller: CallerOf, task_id: TaskId) -> dict[str, Any]:
    row = await access.read_task(context, caller, task_id, task_queries.progress)
    return ok(task_progress.shown(row, *await context.forecast.of_task(row)))


@router.get(
    "/{taskId}/result",
    response_model=Envelope[TaskResult],
    summary="3.4 获取任务结果",
    responses={200: {"headers": waiting.APPLIED}},
)
async def get_result(
    request: Request, context: ContextOf, caller: CallerOf, task_id: TaskId, prefer: Prefer = None
) -> Response:
    applied: dict[str, str] = {}
    if prefer is not None:
        await access.read_task(context, caller, task_id, task_queries.owner)
        applied = await waiting.for_end(request, context, task_id, prefer)
    row = await access.read_task(context, caller, task_id, task_queries.get)
    body = await off_loop.run(len(row.result or ""), lambda: task_result.shown(row))
    return Response(body, media_type=JSON, headers=applied)


@router.get(
    "/{taskId}/events",
    response_model=Envelope[list[TaskEvent]],
    summary="扩展 获取任务时间线",
    description="任务的每次状态变化：由谁引起、原因、时间，按发生顺序排列；`from` 与 `to` 相同的是监控的修复记录。"
    + WHOLE,
)
async def get_events(
    request: Request, context: ContextOf, caller: CallerOf, page: WholeOrPageOf, task_id: TaskId
) -> Response:
    owner = await access.read_task(context, caller, task_id, task_queries.owner)
    rows = await context.database.run(lambda c: timeline.events(c, task_id, limit=page.limit, offset=page.offset))
    return await page.answer(request, [TaskEvent.of(row).item() for row in rows], owner.event_seq)

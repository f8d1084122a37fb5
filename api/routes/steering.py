"""Steering tasks (ADR 0035)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.dependencies import ContextOf
from api.http.body import JsonBody
from api.http.envelope import Envelope, ok, says
from api.middleware.authentication import CallerOf
from api.routes.access import read_task
from api.schemas.params import TaskId
from api.schemas.steering import CancelTask
from infra.db.tasks import queries as task_queries
from infra.db.transactions import cancel_task as cancels
from workflows.domain.errors import IllegalTransition

router = APIRouter(prefix="/tasks", tags=["任务管理"])


@router.post(
    "/{taskId}/cancel",
    response_model=Envelope[str],
    summary="扩展 取消任务",
    description="排队中和执行中的任务均可取消：任务以 FAILED 结束，`endReason` 为 CANCELLED；节点上的进程随即终止，"
    "此后上报的结果不再接受。已取消的任务再次取消仍返回 200；以其他方式结束的任务返回 400。",
    responses=says("任务已取消"),
)
async def cancel_task(
    context: ContextOf,
    caller: CallerOf,
    task_id: TaskId,
    body: Annotated[CancelTask, Depends(JsonBody(CancelTask, optional=True))],
) -> dict[str, Any]:
    await read_task(context, caller, task_id, task_queries.owner)
    ended = await context.database.run(lambda c: cancels.cancel(c, caller, task_id, body.reason))
    await context.deliver(ended.notifications)
    if not ended.is_cancelled:
        raise IllegalTransition(f"任务已以 {ended.status} 结束")
    return ok("任务已取消")

"""Steering tasks (ADR 0035, ADR 0036)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.dependencies import ContextOf
from api.http.body import JsonBody
from api.http.envelope import Envelope, ok, says
from api.middleware.authentication import CallerOf
from api.routes import access, create_task
from api.schemas.create_task import TaskCreated
from api.schemas.params import IdempotencyKey, TaskId
from api.schemas.steering import CancelTask, ChangeTask
from infra.db.slots.eligibility import Wanted
from infra.db.tasks import queries as task_queries
from infra.db.tasks import repetitions
from infra.db.transactions import cancel_task as cancels
from infra.db.transactions import change_priority
from infra.db.transactions.change_priority import Share
from infra.db.transactions.retry_task import again, check, key_among
from workflows.domain import shares
from workflows.domain.errors import NotInThisState
from workflows.domain.priority import queue_class
from workflows.notifications import Notifications

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
    await access.read_task(context, caller, task_id, task_queries.owner)
    ended = await context.database.run(lambda c: cancels.cancel(c, caller, task_id, body.reason))
    if ended.changed:
        await context.deliver(Notifications(ended=[task_id]))
    if not ended.is_cancelled:
        raise NotInThisState(f"任务已以 {ended.status} 结束")
    return ok("任务已取消")


@router.patch(
    "/{taskId}",
    response_model=Envelope[str],
    summary="扩展 修改优先级",
    description="修改排队中任务的 `priority`：类别改变时，任务按新类别重新排队，并立即尝试获得槽位。"
    "仅限尚未获得槽位的任务（排队中，或正在等待重试），否则返回 400；在此期间重复提交相同的值返回 200。"
    "其他字段不可修改。",
    responses=says("任务优先级已更新"),
)
async def change_task(
    context: ContextOf,
    caller: CallerOf,
    task_id: TaskId,
    body: Annotated[ChangeTask, Depends(JsonBody(ChangeTask))],
) -> dict[str, Any]:
    priority = create_task.priority_for(caller, body.priority)
    task = await access.read_task(context, caller, task_id, task_queries.original)
    capacity = await context.forecast.of(Wanted(task.task_type, queue_class(priority) > 0))
    weight = shares.weight(task.flow, task.app, task.granted_apps, context.settings.weight_of)
    share = Share(shares.named(task.flow, task.app), weight, capacity.clock)
    notifications = await change_priority.change(
        context.database.run,
        caller,
        task_id,
        task.task_type,
        priority,
        share,
        claims_slot=not context.temporal.away,  # as at a creation
    )
    await context.deliver(notifications)
    return ok("任务优先级已更新")


@router.post(
    "/{taskId}/retry",
    response_model=Envelope[TaskCreated],
    response_model_exclude_unset=True,
    summary="扩展 重试任务",
    description="以相同的类型、应用、用户、优先级、payload、env、时限、最大重试次数和任务组创建一个任务，"
    "其 `retryOf` 为原任务；原任务不变。仅限 FAILED 或 TIMEOUT 的任务（包括已取消和已过期的），否则返回 400。"
    "新任务属于原任务的所有者，计入其等待上限；相对时限重新计算，已过的 `deadline` 不再保留。",
)
async def retry_task(
    context: ContextOf, caller: CallerOf, task_id: TaskId, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    original = await access.read_task(context, caller, task_id, task_queries.original)
    create_task.check_app(caller, original.app)
    create_task.priority_for(caller, original.priority)
    task = again(task_id, original, caller, key_among(original, caller, idempotency_key))
    try:
        check(original)
    except NotInThisState:  # but a repetition is answered as before
        if not await context.database.single(lambda c: repetitions.is_known(c, task.lineage, task.idempotency_key)):
            raise
    return await create_task.create(
        context, caller, task, apps=original.granted_apps, max_waiting=context.settings.max_waiting
    )

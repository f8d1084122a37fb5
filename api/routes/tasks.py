"""Task endpoints (specification §3)."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from api.dependencies import Context, ContextOf
from api.http import lists
from api.http.body import JsonBody, check_depth, check_json_text
from api.http.envelope import JSON, Envelope, ok, says
from api.http.errors import BadRequest, TooComplex, TooLarge
from api.http.lists import FITTING, MAX_ANSWER
from api.http.paging import WHOLE, PageOf, WholeOrPageOf
from api.middleware.authentication import CallerOf
from api.routes import access
from api.schemas import task_progress, task_result
from api.schemas.params import AttemptToken, IdempotencyKey, Integer
from api.schemas.requests import CreateTask, UpdateResult, UpdateStatus
from api.schemas.tasks import TaskCreated, TaskDO, TaskEvent, TaskProgress, TaskResult
from api.schemas.words import Line, clean
from infra import telemetry
from infra.db.ops.api_keys import Caller
from infra.db.queue.position import Place
from infra.db.tasks import queries as task_queries
from infra.db.tasks import timeline
from infra.db.transactions import create_task as creation
from infra.db.transactions import report as reports
from infra.db.transactions.create_task import Created, NewTask
from infra.db.transactions.report import Heard, Report, Said
from infra.json.off_loop import off_loop
from infra.temporal.notifications import Notifications
from workflows.domain import shares
from workflows.domain.errors import TaskNotFound
from workflows.domain.gpu import PriorityQueue
from workflows.domain.priority import class_of
from workflows.domain.queueing import DEFAULT_WEIGHT
from workflows.domain.role import Role
from workflows.domain.task import TaskStatus
from workflows.messages import TaskInput

log = logging.getLogger(__name__)
router = APIRouter(prefix="/tasks", tags=["任务管理"])


@router.get("", response_model=Envelope[list[TaskDO]], summary="3.1 获取任务列表", description=FITTING)
async def list_tasks(
    request: Request,
    context: ContextOf,
    caller: CallerOf,
    page: PageOf,
    status: Annotated[TaskStatus | None, Query(description="任务状态过滤")] = None,
    task_type: Annotated[Integer | None, Query(alias="taskType", description="任务类型过滤")] = None,
    gpu_id: Annotated[Line | None, Query(alias="gpuId", description="GPU ID过滤")] = None,
) -> Response:
    given = {"status": status, "task_type": task_type, "gpu_id": gpu_id, "user_id": access.owner_seen_by(caller)}
    filters: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    rows, total = await context.database.run(
        lambda c: task_queries.page(c, filters, limit=page.limit, offset=page.offset, room=MAX_ANSWER)
    )
    return await lists.answer([TaskDO.listed(row) for row in rows], page.headers(request, total))


@router.post("", response_model=Envelope[TaskCreated], summary="3.5 创建任务")
async def create_task(
    context: ContextOf,
    caller: CallerOf,
    body: Annotated[CreateTask, Depends(JsonBody(CreateTask))],
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    access.check_creator(caller, body.user_id)
    access.check_app(caller, body.app)
    await check_depth(body.payload, "payload")
    task = _new_task(context, caller, body, idempotency_key)
    capacity = await context.forecast.of(task.task_type, vip=task.queue_class > 0)
    milestones = await context.forecast.milestones(capacity.pool)
    by_app = shares.counts_as_app(task.flow, task.app, caller.grants.apps)
    weight = context.settings.weight_of(task.app) if by_app else DEFAULT_WEIGHT
    cap = context.settings.max_waiting if caller.role is Role.USER else None
    created = await context.database.run(
        lambda c: creation.create(
            c,
            task,
            capacity,
            weight=weight,
            by=caller,
            max_waiting=cap,
            claims_slot=not context.temporal.away,  # else it would hold a slot that nobody dispatches to
            milestones=milestones,
        )
    )
    row = created.row
    _learn(context, task, created, capacity.pool)
    await context.deliver(Notifications(grants=list(created.others)))
    if created.unstarted:
        await _start(context, replace(task, task_id=row.task_id), created)
    return ok(TaskCreated.of(row))


def _new_task(context: Context, caller: Caller, body: CreateTask, idempotency_key: str | None) -> NewTask:
    settings = context.settings
    priority = access.priority_for(caller, body.priority if "priority" in body.model_fields_set else None)
    canonical = json.dumps(body.model_dump(mode="json", by_alias=True), sort_keys=True)
    return NewTask(
        task_id=f"task_{time.time_ns() // 1_000_000:x}{secrets.token_hex(6)}",
        task_type=body.task_type,
        user_id=body.user_id,
        app=body.app,
        priority=priority,
        queue_class=int(class_of(priority) is PriorityQueue.VIP),
        payload=body.payload,
        env=body.env,
        timeout_ms=body.timeout if body.timeout is not None else settings.timeout_for(body.task_type),
        max_retries=body.max_retries if body.max_retries is not None else settings.max_retries_for(body.task_type),
        traceparent=telemetry.current_traceparent() or telemetry.new_traceparent(),
        lineage=caller.lineage,
        idempotency_key=idempotency_key,
        flow=shares.flow_of(caller.role, caller.owner, acts_for_others=caller.acts_for_others),
        request_hash=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def _learn(context: Context, task: NewTask, created: Created, pool: list[int]) -> None:
    """Pass on what a creation has shown: to the trace, and to the next creations."""
    telemetry.describe(task_id=created.row.task_id, task_type=task.task_type)
    if created.grant is not None:
        telemetry.describe(task_attempt=created.grant.attempt, gpu_id=created.grant.gpu_id)
    if created.far_back:
        context.forecast.found_long(pool)


async def _start(context: Context, task: NewTask, created: Created) -> None:
    """Start the workflow: at once, or in the background if it waits anyway."""
    started = TaskInput.of(task, waits=created.waits, grant=created.grant)
    if created.waits:
        context.starter.start_later(started, task.traceparent)
    else:
        await context.starter.start(started)


async def _row(context: Context, caller: Caller, task_id: str, read: Any) -> Any:
    name = clean(task_id, "taskId")
    row = await context.database.single(lambda c: read(c, name))
    if row is None:
        raise TaskNotFound
    access.check_reader(caller, row)
    return row


@router.get("/{taskId}", response_model=Envelope[TaskDO], response_model_exclude_unset=True, summary="3.2 获取任务详情")
async def get_task(context: ContextOf, caller: CallerOf, taskId: str) -> dict[str, Any]:
    return ok(TaskDO.of(await _row(context, caller, taskId, task_queries.get)))


@router.get(
    "/{taskId}/progress",
    response_model=Envelope[TaskProgress],
    response_model_exclude_unset=True,
    summary="3.3 获取任务进度",
    description="扩展：任务等待空闲槽位期间另有 `waiting`，说明在等什么。",
)
async def get_progress(context: ContextOf, caller: CallerOf, taskId: str) -> dict[str, Any]:
    row = await _row(context, caller, taskId, task_queries.progress)
    capacity, ahead = await context.forecast.of(row.task_type, vip=row.vip), 0
    if row.status == TaskStatus.QUEUED and row.attempt is None:  # a pause before a retry included
        place = Place(row.queue_class, row.queue_rank, row.display_id)
        ahead = await context.forecast.ahead(place, capacity.pool)
    return ok(task_progress.shown(row, capacity, ahead))


@router.get("/{taskId}/result", response_model=Envelope[TaskResult], summary="3.4 获取任务结果")
async def get_result(context: ContextOf, caller: CallerOf, taskId: str) -> Response:
    row = await _row(context, caller, taskId, task_queries.get)
    return Response(await off_loop.run(len(row.result or ""), lambda: task_result.shown(row)), media_type=JSON)


@router.get(
    "/{taskId}/events",
    response_model=Envelope[list[TaskEvent]],
    summary="扩展 任务时间线",
    description="任务的每次状态变化：由谁引起、原因、时间，按发生顺序排列；`from` 与 `to` 相同的是监控的修复记录。"
    + WHOLE,
)
async def get_events(
    request: Request, context: ContextOf, caller: CallerOf, page: WholeOrPageOf, taskId: str
) -> Response:
    owner = await _row(context, caller, taskId, task_queries.owner)
    rows = await context.database.run(lambda c: timeline.events(c, taskId, limit=page.limit, offset=page.offset))
    return await page.answer(request, [TaskEvent.of(row).item() for row in rows], owner.event_seq)


def _report(context: Context, caller: Caller, task_id: str, token: str | None, gpu_id: str | None) -> Report:
    name, lineage = clean(task_id, "taskId"), access.lineage_of_node(caller)
    return Report(name, token or None, gpu_id, lineage)


async def _answer(context: Context, heard: Heard, message: str) -> dict[str, Any]:
    await context.deliver(heard.notifications)
    if heard.refusal is not None:
        raise heard.refusal
    return ok(message)


@router.post(
    "/{taskId}/status", response_model=Envelope[str], summary="3.6 更新任务状态", responses=says("任务状态更新成功")
)
async def update_status(
    context: ContextOf,
    caller: CallerOf,
    taskId: str,
    body: Annotated[UpdateStatus, Depends(JsonBody(UpdateStatus))],
    x_attempt_token: AttemptToken = None,
) -> dict[str, Any]:
    report = _report(context, caller, taskId, x_attempt_token, body.gpu_id)
    said = Said(TaskStatus(body.status), body.message, body.progress, rejected=body.rejected is True)
    heard = await context.database.run(lambda c: reports.status(c, report, said))
    return await _answer(context, heard, "任务状态更新成功")


async def _fails_its_attempt(
    context: ContextOf, caller: CallerOf, taskId: str, x_attempt_token: AttemptToken = None
) -> AsyncIterator[None]:
    """A FastAPI dependency around a report of a result: one that is refused fails the attempt (`fail_refused`).

    So does all that is wrong with `result` itself: it is missing, no text, no JSON text, or makes the body too large or
    too complex, which no other field does. The rest of the body is the caller's envelope, or was damaged on its way (it
    is no JSON, or came too slowly), and says nothing about the result. The answer is 400 all the same.
    """
    try:
        yield
    except BadRequest as refused:
        if refused.field == "result" or isinstance(refused, TooLarge | TooComplex):
            report, why = _report(context, caller, taskId, x_attempt_token, None), refused.detail
            await context.deliver(await context.database.run(lambda c: reports.fail_refused(c, report, why)))
        raise


@router.post(
    "/{taskId}/result",
    response_model=Envelope[str],
    summary="3.7 更新任务结果",
    description="`result` 无法接受时返回 400，并且当前的执行尝试以此原因失败。",
    responses=says("任务结果更新成功"),
    dependencies=[Depends(_fails_its_attempt)],
)
async def update_result(
    context: ContextOf,
    caller: CallerOf,
    taskId: str,
    body: Annotated[UpdateResult, Depends(JsonBody(UpdateResult))],
    x_attempt_token: AttemptToken = None,
) -> dict[str, Any]:
    await check_json_text(body.result, "result")
    report = _report(context, caller, taskId, x_attempt_token, None)
    heard = await reports.take_result(context.database, report, body.result)
    return await _answer(context, heard, "任务结果更新成功")

"""Creating a task (specification §3.5). Retries of tasks share `create`."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody, check_depth
from api.http.envelope import Envelope, ok
from api.http.errors import BadRequest, Forbidden
from api.middleware.authentication import CallerOf
from api.routes import receivers, waiting
from api.routes.waiting import Prefer
from api.schemas.create_task import CreateTask, TaskCreated
from api.schemas.fields import unix_ms
from api.schemas.params import IdempotencyKey
from infra import telemetry
from infra.db import clock
from infra.db.access.callers import Caller
from infra.db.session import is_unavailable
from infra.db.slots.eligibility import Wanted
from infra.db.tasks import queries as task_queries
from infra.db.tasks.new_task import NO_BOUNDS, NewTask, TimeBounds, new_task_id
from infra.db.transactions import create_task as transaction
from workflows.domain import shares
from workflows.domain.errors import BeyondKeyLimits, DeadlinePassed
from workflows.domain.priority import DEFAULT_PRIORITY, queue_class
from workflows.domain.role import Role
from workflows.messages import TaskInput
from workflows.notifications import Notifications

router = APIRouter(prefix="/tasks", tags=["任务管理"])


@router.post(
    "",
    response_model=Envelope[TaskCreated],
    response_model_exclude_unset=True,
    summary="3.5 创建任务",
    responses={200: {"headers": waiting.APPLIED}},
)
async def create_task(
    request: Request,
    response: Response,
    context: ContextOf,
    caller: CallerOf,
    body: Annotated[CreateTask, Depends(JsonBody(CreateTask))],
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> dict[str, Any]:
    check_creator(caller, body.user_id)
    check_app(caller, body.app)
    await check_depth(body.payload, "payload")
    if idempotency_key is None and body.deadline is not None and body.deadline <= unix_ms(datetime.now(UTC)):
        raise DeadlinePassed  # with a key it may be the repetition of an earlier request: the transaction knows
    urls = {"webhook": body.webhook} if body.webhook else {}
    signer = await receivers.signer_of(context, caller, urls, idempotency_key)
    request_hash = hashlib.sha256(body.canonical_json()).hexdigest()
    task = new_task(context, caller, body, idempotency_key, request_hash, telemetry.trace_of_new(), signer=signer)
    bounds = TimeBounds(expires_in_ms=body.expires_in, max_wait_s=body.max_wait)
    cap = context.settings.max_waiting if caller.role is Role.USER else None
    created = await create(context, caller, task, apps=caller.limits.apps, max_waiting=cap, bounds=bounds)
    task_id = created["data"].task_id
    if applied := await waiting.for_end(request, context, task_id, prefer):
        response.headers.update(applied)
        created["data"] = await _as_it_is(context, task_id) or created["data"]
    return created


async def _as_it_is(context: Context, task_id: str) -> TaskCreated | None:
    """The task; None if it is forgotten, or if the database is away: it is created all the same."""
    try:
        row = await context.database.single(lambda c: task_queries.get(c, task_id))
        return None if row is None else TaskCreated.of(await context.forecast.with_wait(row))
    except Exception as error:
        if not is_unavailable(error):
            raise
        return None


def check_creator(caller: Caller, user_id: str, where: str = "") -> None:
    """Let users create only tasks of their own, unless the key may act for others. Raises Forbidden.

    `where`, here and below, is what comes before a field's name in the refusal.
    """
    if caller.role is Role.USER and caller.owner != user_id and not caller.acts_for_others:
        raise Forbidden(f"权限不足: {where}userId 必须是密钥的所有者")


def check_app(caller: Caller, app: str, where: str = "") -> None:
    """Check that the key was granted the app. Raises BeyondKeyLimits."""
    if not caller.limits.allow_app(app):
        raise BeyondKeyLimits(f"{where}app 不在密钥的授权范围内")


def priority_for(caller: Caller, asked: int | None, where: str = "") -> int:
    """The priority of a new task; `asked` is None if the field is missing. Raises BadRequest."""
    priority = caller.limits.priority(asked, DEFAULT_PRIORITY)
    if priority is None:
        raise BadRequest(f"{where}priority", "超出密钥允许的最大值")
    return priority


def new_task(
    context: Context,
    caller: Caller,
    body: CreateTask,
    idempotency_key: str | None,
    request_hash: str | None,
    traceparent: str,
    where: str = "",
    *,
    signer: str | None = None,
) -> NewTask:
    """The task that a body describes. `signer` is the webhook whose secret signs for the caller's tasks.

    Raises BadRequest; `where` is what comes before the field's name in that.
    """
    settings = context.settings
    priority = priority_for(caller, body.priority if "priority" in body.model_fields_set else None, where)
    return NewTask(
        task_id=new_task_id(),
        task_type=body.task_type,
        user_id=body.user_id,
        app=body.app,
        priority=priority,
        queue_class=queue_class(priority),
        payload=body.payload,
        env=body.env,
        timeout_ms=body.timeout if body.timeout is not None else settings.timeout_for(body.task_type),
        max_retries=body.max_retries if body.max_retries is not None else settings.max_retries_for(body.task_type),
        traceparent=traceparent,
        lineage=caller.lineage,
        idempotency_key=idempotency_key,
        flow=shares.flow_of(caller.role, caller.owner, acts_for_others=caller.acts_for_others),
        request_hash=request_hash,
        deadline=clock.moment(body.deadline),
        group_id=body.group_id,
        webhook=body.webhook,
        webhook_id=signer if body.webhook else None,
    )


async def create(
    context: Context,
    by: Caller,
    task: NewTask,
    *,
    apps: Container[str] | None,
    max_waiting: int | None,
    bounds: TimeBounds = NO_BOUNDS,
) -> dict[str, Any]:
    """Create the task and start its workflow. `apps` are those granted to the key whose share it takes.

    Raises what the transaction raises.
    """
    outlook = await context.forecast.for_new(Wanted.of_new(task))
    weight = shares.weight(task.flow, task.app, apps, context.settings.weight_of)
    created = await context.database.run(
        lambda c: transaction.create(
            c,
            task,
            outlook,
            weight=weight,
            by=by,
            max_waiting=max_waiting,
            bounds=bounds,
            claims_slot=not context.temporal.away,  # otherwise it would hold a slot to which nothing is dispatched
        )
    )
    telemetry.describe(task_id=created.row.task_id, task_type=task.task_type)
    if created.grant is not None:
        telemetry.describe(task_attempt=created.grant.attempt, gpu_id=created.grant.gpu_id)
    await context.deliver(Notifications(grants=list(created.others)))
    if created.unstarted:
        task = replace(task, task_id=created.row.task_id)
        started = TaskInput.of(task, waits=created.waits, grant=created.grant)
        await context.starter.start(started, task.traceparent)
    return ok(TaskCreated.of(created.row))

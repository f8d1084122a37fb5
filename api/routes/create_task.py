"""Creating a task (specification §3.5)."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody, check_depth
from api.http.envelope import Envelope, ok
from api.middleware.authentication import CallerOf
from api.routes import access
from api.schemas.create_task import CreateTask, TaskCreated
from api.schemas.params import IdempotencyKey
from infra import telemetry
from infra.db.ops.api_keys import Caller
from infra.db.transactions import create_task as creation
from infra.db.transactions.create_task import Created, NewTask
from infra.temporal.notifications import Notifications
from workflows.domain import shares
from workflows.domain.gpu import PriorityQueue
from workflows.domain.priority import class_of
from workflows.domain.role import Role
from workflows.messages import TaskInput

router = APIRouter(prefix="/tasks", tags=["任务管理"])


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
    weight = context.settings.weight_of(task.app) if by_app else shares.DEFAULT_WEIGHT
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

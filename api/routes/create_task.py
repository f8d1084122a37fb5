"""Creating a task (specification §3.5)."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody, check_depth
from api.http.envelope import Envelope
from api.middleware.authentication import CallerOf
from api.routes import access, creation
from api.schemas.create_task import CreateTask, TaskCreated
from api.schemas.params import IdempotencyKey
from infra.db.ops.api_keys import Caller
from infra.db.transactions.create_task import NewTask
from workflows.domain import shares
from workflows.domain.gpu import PriorityQueue
from workflows.domain.priority import class_of
from workflows.domain.role import Role

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
    cap = context.settings.max_waiting if caller.role is Role.USER else None
    return await creation.create(context, caller, task, apps=caller.grants.apps, max_waiting=cap)


def _new_task(context: Context, caller: Caller, body: CreateTask, idempotency_key: str | None) -> NewTask:
    settings = context.settings
    priority = access.priority_for(caller, body.priority if "priority" in body.model_fields_set else None)
    canonical = json.dumps(body.model_dump(mode="json", by_alias=True), sort_keys=True)
    return NewTask(
        task_id=creation.new_task_id(),
        task_type=body.task_type,
        user_id=body.user_id,
        app=body.app,
        priority=priority,
        queue_class=int(class_of(priority) is PriorityQueue.VIP),
        payload=body.payload,
        env=body.env,
        timeout_ms=body.timeout if body.timeout is not None else settings.timeout_for(body.task_type),
        max_retries=body.max_retries if body.max_retries is not None else settings.max_retries_for(body.task_type),
        traceparent=creation.new_trace(),
        lineage=caller.lineage,
        idempotency_key=idempotency_key,
        flow=shares.flow_of(caller.role, caller.owner, acts_for_others=caller.acts_for_others),
        request_hash=hashlib.sha256(canonical.encode()).hexdigest(),
    )

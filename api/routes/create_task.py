"""Creating a task (specification §3.5)."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody, check_depth
from api.http.envelope import Envelope
from api.middleware.authentication import CallerOf
from api.routes import access, creation, receivers, waiting
from api.routes.waiting import Prefer
from api.schemas.create_task import CreateTask, TaskCreated
from api.schemas.fields import unix_ms
from api.schemas.params import IdempotencyKey
from infra.db import clock
from infra.db.ops.api_keys import Caller
from infra.db.tasks import queries as task_queries
from infra.db.transactions.create_task import Limits, NewTask
from workflows.domain import shares
from workflows.domain.errors import DeadlinePassed
from workflows.domain.gpu import PriorityQueue
from workflows.domain.priority import class_of
from workflows.domain.role import Role

router = APIRouter(prefix="/tasks", tags=["任务管理"])

_LATER = frozenset({"expiresIn", "deadline", "maxWait", "groupId", "webhook"})
"""Fields that earlier versions did not know: a key that was used with one of those still means the same body."""


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
    access.check_creator(caller, body.user_id)
    access.check_app(caller, body.app)
    await check_depth(body.payload, "payload")
    if idempotency_key is None and body.deadline is not None and body.deadline <= unix_ms(datetime.now(UTC)):
        raise DeadlinePassed  # with a key it may be the repetition of an earlier request: the transaction knows
    signer = await receivers.signer_of(context, caller, [body.webhook])
    task = new_task(context, caller, body, idempotency_key, _hash(body), creation.new_trace(), signer=signer)
    limits = Limits(expires_in_ms=body.expires_in, max_wait_s=body.max_wait)
    cap = context.settings.max_waiting if caller.role is Role.USER else None
    created = await creation.create(context, caller, task, apps=caller.grants.apps, max_waiting=cap, limits=limits)
    task_id = created["data"].task_id
    if applied := await waiting.for_end(request, context, task_id, prefer):
        response.headers.update(applied)
        now = await context.database.single(lambda c: task_queries.get(c, task_id))
        created["data"] = created["data"] if now is None else TaskCreated.of(now)
    return created


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
    priority = access.priority_for(caller, body.priority if "priority" in body.model_fields_set else None, where)
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


def _hash(body: CreateTask) -> str:
    return hashlib.sha256(said(body)).hexdigest()


def said(body: CreateTask) -> bytes:
    """All that the body says. A field of `_LATER` counts only where it is given."""
    fields = body.model_dump(mode="json", by_alias=True)
    return json.dumps({k: v for k, v in fields.items() if v is not None or k not in _LATER}, sort_keys=True).encode()

"""Bulk operations on tasks (ADR 0041)."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Request

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody
from api.http.envelope import Envelope, ok
from api.middleware import rate_limit
from api.middleware.authentication import CallerOf
from api.middleware.rate_limit import CALLS_OF_BULK
from api.routes import access
from api.schemas.operations import Bulk, BulkAnswer, BulkCancel, BulkRetry, OperationDO
from api.schemas.params import IdempotencyKey, OperationId
from infra.db.access.callers import Caller
from infra.db.tasks import operations
from infra.db.tasks import queries as task_queries
from infra.db.tasks.filters import TaskFilter
from infra.db.tasks.operations import Operation
from infra.db.transactions import begin_operation
from infra.db.transactions.begin_operation import MOST_RUNNING
from infra.temporal.access import TemporalAway
from workflows.domain.errors import OperationNotFound, TaskNotFound
from workflows.domain.operation import OperationKind, OperationState

log = logging.getLogger(__name__)

router = APIRouter(tags=["任务管理"])

_HOW = (
    "以 `ids` 或 `filter` 指明任务；`dryRun` 为 true 时仅返回 `matched`，否则同时返回 `operationId`，任务在后台处理，"
    "进度见 `GET /operations/{operationId}`。此后新建的任务不受影响。普通用户的操作仅限自己的任务；"
    "`ids` 中有不存在的或他人的任务时返回 404。"
    f"每次请求（包括 `dryRun`）按 {CALLS_OF_BULK} 次调用计入频率限制；"
    f"同一密钥进行中的操作最多 {MOST_RUNNING} 个，超出时返回 429。"
)


@router.post(
    "/tasks/cancel",
    response_model=Envelope[BulkAnswer],
    response_model_exclude_unset=True,
    summary="扩展 批量取消任务",
    description="`matched` 为尚未结束的任务数。" + _HOW,
    responses={404: {}},
)
async def cancel_tasks(
    request: Request,
    context: ContextOf,
    caller: CallerOf,
    background: BackgroundTasks,
    body: Annotated[BulkCancel, Depends(JsonBody(BulkCancel))],
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    await rate_limit.charge(request, CALLS_OF_BULK)
    return await _answer(context, caller, background, OperationKind.CANCEL, body, body.reason, idempotency_key)


@router.post(
    "/tasks/retry",
    response_model=Envelope[BulkAnswer],
    response_model_exclude_unset=True,
    summary="扩展 批量重试任务",
    description="`matched` 为 FAILED 或 TIMEOUT 的任务数；各任务的重试与单个重试相同，"
    "被拒绝的（如等待已达上限）计入 `failed`。" + _HOW,
    responses={404: {}},
)
async def retry_tasks(
    request: Request,
    context: ContextOf,
    caller: CallerOf,
    background: BackgroundTasks,
    body: Annotated[BulkRetry, Depends(JsonBody(BulkRetry))],
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    await rate_limit.charge(request, CALLS_OF_BULK)
    return await _answer(context, caller, background, OperationKind.RETRY, body, None, idempotency_key)


@router.get(
    "/operations/{operationId}",
    response_model=Envelope[OperationDO],
    summary="扩展 获取批量操作的进度",
    description="`state` 为 DONE 时全部任务均已处理，`done` 与 `failed` 之和为 `matched`；"
    "各任务的工作流随后以有限的速率结束。",
)
async def get_operation(context: ContextOf, caller: CallerOf, operation_id: OperationId) -> dict[str, Any]:
    found = await context.database.single(lambda c: operations.get(c, operation_id))
    if found is None or not access.may_see_operation(caller, found):
        raise OperationNotFound
    return ok(OperationDO.of(found))


async def _answer(
    context: Context,
    caller: Caller,
    background: BackgroundTasks,
    kind: OperationKind,
    body: Bulk,
    reason: str | None,
    idempotency_key: str | None,
) -> dict[str, Any]:
    if body.dry_run:
        chosen = await _chosen(context, caller, body)
        matched = await context.database.run(lambda c: begin_operation.count(c, kind, chosen))
        return ok({"matched": matched})
    operation = await _operation(context, caller, kind, body, reason, idempotency_key)
    if operation.state == OperationState.RUNNING:
        background.add_task(_start, context, operation.operation_id)
    return ok(BulkAnswer(operationId=operation.operation_id, matched=operation.matched))


async def _operation(
    context: Context, caller: Caller, kind: OperationKind, body: Bulk, reason: str | None, idempotency_key: str | None
) -> Operation:
    """A new operation, or the earlier one of the same request: its tasks may be forgotten by now."""
    request_hash = _hash(kind, body)
    if idempotency_key is not None:
        seen = await context.database.single(
            lambda c: begin_operation.earlier(c, caller, idempotency_key, request_hash)
        )
        if seen is not None:
            return seen
    chosen = await _chosen(context, caller, body)
    return await context.database.run(
        lambda c: begin_operation.begin(
            c,
            caller,
            new_operation_id(),
            kind,
            chosen,
            reason=reason,
            idempotency_key=idempotency_key,
            request_hash=request_hash,
        )
    )


async def _chosen(context: Context, caller: Caller, body: Bulk) -> TaskFilter:
    """Raises TaskNotFound if one of the ids is not there, or not the caller's."""
    if "filter" in body.model_fields_set:
        return body.filter.chosen(access.owner_seen_by(caller))
    task_ids = sorted(set(body.ids))
    owners = await context.database.single(lambda c: task_queries.owners(c, task_ids))
    if len(owners) < len(task_ids):
        raise TaskNotFound
    for owner in owners:
        access.check_reader(caller, owner)
    return TaskFilter(task_ids=tuple(task_ids))


async def _start(context: Context, operation_id: str) -> None:
    """Start its workflow, after the answer. If that fails the leader does it."""
    try:
        await context.temporal.start_operation(operation_id)
    except TemporalAway as error:
        log.warning("%s will be started by the leader: %s", operation_id, error)


def new_operation_id() -> str:
    """An id that no operation has."""
    return f"op_{secrets.token_hex(8)}"


def _hash(kind: OperationKind, body: Bulk) -> str:
    """A hash of everything that the body says."""
    said = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return hashlib.sha256(f"{kind} {json.dumps(said, sort_keys=True)}".encode()).hexdigest()

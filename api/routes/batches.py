"""Creating many tasks at once (ADR 0040)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Request

from api.dependencies import Context, ContextOf
from api.http.body import BATCH, JsonBody, check_depth_here
from api.http.envelope import Envelope, ok
from api.http.errors import BadRequest
from api.middleware import rate_limit
from api.middleware.authentication import CallerOf
from api.routes import receivers
from api.routes.create_task import check_app, check_creator, new_task
from api.schemas.batches import MOST, MOST_APPS, MOST_TYPES, CreateBatch
from api.schemas.create_task import MAX_PAYLOAD, TaskCreated
from api.schemas.params import IdempotencyKey
from infra import telemetry
from infra.db.access.callers import Caller
from infra.db.slots import free_nodes
from infra.db.slots.eligibility import Wanted
from infra.db.tasks.new_task import NewTask, TimeBounds
from infra.db.transactions import create_batch as transaction
from infra.db.transactions import node_state
from infra.db.transactions.create_batch import Entry, where
from infra.json.off_loop import off_loop
from workflows.domain import shares
from workflows.domain.role import Role
from workflows.messages import TaskInput

log = logging.getLogger(__name__)

router = APIRouter(prefix="/tasks", tags=["任务管理"])

TASKS_OF_A_CALL = 10
"""Tasks of a batch that count as one call: a batch costs about a tenth of its single creations."""


@router.post(
    "/batch",
    response_model=Envelope[list[TaskCreated]],
    response_model_exclude_unset=True,
    summary="扩展 批量创建任务",
    description=f"一次创建最多 {MOST} 个任务，全部成功或全部失败；每一项与创建任务的请求体相同，响应依次与之对应。"
    f"一个批次最多包含 {MOST_TYPES} 种任务类型；可代他人创建任务的密钥最多包含 {MOST_APPS} 个应用。"
    "错误信息以 `tasks[2].taskType` 的形式指出第几项（从 0 起）的哪个字段。"
    f"`Idempotency-Key` 对整个批次有效；每 {TASKS_OF_A_CALL} 个任务按一次调用计入频率限制。请求体不超过 8 MiB。",
)
async def create_batch(
    request: Request,
    context: ContextOf,
    caller: CallerOf,
    background: BackgroundTasks,
    body: Annotated[CreateBatch, Depends(JsonBody(CreateBatch, size=BATCH))],
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    await rate_limit.charge(request, -(-len(body.tasks) // TASKS_OF_A_CALL))
    trace = telemetry.current_traceparent()
    size = sum(len(task.payload) for task in body.tasks) + MAX_PAYLOAD
    urls = {f"{where(index)}webhook": one.webhook for index, one in enumerate(body.tasks) if one.webhook}
    signer = await receivers.signer_of(context, caller, urls, idempotency_key)
    batch = await off_loop.run(size, lambda: _prepared(context, caller, body, idempotency_key, trace, signer))
    entries = [await _entry(context, caller, task, bounds) for task, bounds in batch.tasks]
    claims_slot = not context.temporal.away
    created = await context.database.run(
        lambda c: transaction.create(
            c,
            entries,
            batch.rows,
            by=caller,
            max_waiting=context.settings.max_waiting if caller.role is Role.USER else None,
            claims_slot=claims_slot,
        )
    )
    if created.is_new:
        for task, _ in batch.tasks:
            await context.starter.start(TaskInput.of(task, waits=True), task.traceparent)
        if claims_slot:
            background.add_task(_assign_free_slots, context, sorted({task.task_type for task, _ in batch.tasks}))
    return ok([TaskCreated.of(row) for row in created.rows])


@dataclass(frozen=True)
class _Batch:
    """The tasks of a batch, and their rows as they are written."""

    tasks: list[tuple[NewTask, TimeBounds]]
    rows: list[str]


def _prepared(
    context: Context,
    caller: Caller,
    body: CreateBatch,
    idempotency_key: str | None,
    trace: str | None,
    signer: str | None,
) -> _Batch:
    """Check each task, and complete it. Off the event loop. Raises what the checks of a single creation raise."""
    group = f"batch {body.group_id or ''}".encode()
    request_hash = hashlib.sha256(b"\n".join([group, *(one.canonical_json() for one in body.tasks)])).hexdigest()
    tasks: list[tuple[NewTask, TimeBounds]] = []
    types: set[int] = set()
    flows: set[str] = set()
    for index, one in enumerate(body.tasks):
        at = where(index)
        check_creator(caller, one.user_id, at)
        check_app(caller, one.app, at)
        check_depth_here(one.payload, f"{at}payload")
        if body.group_id is not None and one.group_id not in (None, body.group_id):
            raise BadRequest(f"{at}groupId", "与批次的 groupId 不同")
        grouped = one.model_copy(update={"group_id": one.group_id or body.group_id})
        key = transaction.key_of(idempotency_key, index)
        trace_of_task = trace or telemetry.new_traceparent()
        task = new_task(context, caller, grouped, key, request_hash, trace_of_task, at, signer=signer)
        types.add(task.task_type)
        flows.add(shares.named(task.flow, task.app))
        _check_variety(at, types, flows)
        tasks.append((task, TimeBounds(expires_in_ms=one.expires_in, max_wait_s=one.max_wait)))
    return _Batch(tasks, transaction.written(tasks))


def _check_variety(at: str, types: Collection[int], flows: Collection[str]) -> None:
    """Check how many types and flows a batch has as far as the task `at`. Raises BadRequest."""
    if len(types) > MOST_TYPES:
        raise BadRequest(f"{at}taskType", f"超出每个批次 {MOST_TYPES} 种任务类型的上限")
    if len(flows) > MOST_APPS:
        raise BadRequest(f"{at}app", f"超出每个批次 {MOST_APPS} 个应用的上限")


async def _entry(context: Context, caller: Caller, task: NewTask, bounds: TimeBounds) -> Entry:
    capacity = await context.forecast.of(Wanted.of_new(task))
    weight = shares.weight(task.flow, task.app, caller.limits.apps, context.settings.weight_of)
    return Entry(task, bounds, weight, capacity)


async def _assign_free_slots(context: Context, task_types: list[int]) -> None:
    """Assign slots that were free when the batch came. The leader assigns what this misses within a second or two."""
    try:
        for gpu_id in await context.database.run(lambda c: free_nodes.with_free_slots(c, task_types)):
            await context.deliver(await context.database.run(partial(node_state.assign_unused_slots, gpu_id=gpu_id)))
    except Exception as error:  # noqa: BLE001  the batch is committed: nothing is lost
        log.warning("free slots will be assigned by the leader: %s", error)

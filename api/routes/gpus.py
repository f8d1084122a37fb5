"""GPU endpoints (specification §2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import Row

from api import present
from api.auth import CallerOf
from api.body import clean, documents, json_body
from api.context import Context, ContextOf
from api.envelope import Envelope, ok
from api.errors import BadRequest
from api.routes.tasks import integer
from api.schemas import GpuNodeInfo, RegisterGpu
from infra.db import gpus
from infra.db.gpus import Registration
from workflows.domain.errors import GpuNotFound
from workflows.domain.gpu import PriorityQueue

router = APIRouter(prefix="/gpus", tags=["GPU管理"])

MAX_REASON = 500  # characters


async def _present(context: Context, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    beats = await context.last_beats([row.gpu_id for row in rows])
    return [present.gpu(row, beats.get(row.gpu_id)) for row in rows]


@router.get("", response_model=Envelope[list[GpuNodeInfo]], summary="2.1 获取GPU列表")
async def list_gpus(context: ContextOf) -> dict[str, Any]:
    return ok(await _present(context, await context.database.run(gpus.list_all)))


@router.get("/by-task-type/{taskType}", response_model=Envelope[list[GpuNodeInfo]], summary="2.3 按任务类型获取GPU列表")
async def by_task_type(
    context: ContextOf,
    taskType: str,
    priority: Annotated[str | None, Query()] = None,
) -> dict[str, Any]:
    wanted = integer(taskType, "taskType")
    assert wanted is not None
    if priority is not None and priority not in set(PriorityQueue):
        raise BadRequest("priority", "无效")
    rows = await context.database.run(lambda c: gpus.by_task_type(c, wanted, priority))
    return ok(await _present(context, rows))


@router.post("/register", response_model=Envelope[str], summary="2.4 GPU注册", openapi_extra=documents(RegisterGpu))
async def register(
    context: ContextOf, caller: CallerOf, body: Annotated[RegisterGpu, Depends(json_body(RegisterGpu))]
) -> dict[str, Any]:
    context.allowed.check(body.ip, body.port)
    node = Registration(
        gpu_id=body.gpuId,
        hostname=body.hostname,
        vast_ins_id=body.vastInsId,
        ip=body.ip,
        port=body.port,
        task_types=body.supportedTaskTypes,
        priority_queue=str(body.supportedTaskPriority),
        version=body.version,
        max_concurrent_tasks=body.maxConcurrentTasks,
        metadata=body.metadata,
        dispatch_secret=body.dispatchSecret,
        key_id=caller.key_id,
    )
    strict = context.settings.vip_nodes_strict
    context.deliver(await context.database.run(lambda c: gpus.register(c, node, strict_vip=strict)))
    await context.beat(body.gpuId)
    return ok("GPU注册成功")


@router.get("/{gpuId}", response_model=Envelope[GpuNodeInfo], summary="2.2 获取指定GPU信息")
async def get_gpu(context: ContextOf, gpuId: str) -> dict[str, Any]:
    name = clean(gpuId, "gpuId")
    row = await context.database.run(lambda c: gpus.get(c, name))
    if row is None:
        raise GpuNotFound
    return ok((await _present(context, [row]))[0])


@router.post("/{gpuId}/heartbeat", response_model=Envelope[str], summary="2.5 GPU心跳")
async def heartbeat(context: ContextOf, gpuId: str) -> dict[str, Any]:
    name = clean(gpuId, "gpuId")
    row = await context.database.run(lambda c: gpus.status_of(c, name))
    if row is None:
        raise GpuNotFound
    await context.beat(name)
    if row.status == "OFFLINE":
        strict = context.settings.vip_nodes_strict
        context.deliver(await context.database.run(lambda c: gpus.come_back(c, name, strict_vip=strict)))
    return ok("心跳更新成功")


@router.post("/{gpuId}/fault", response_model=Envelope[str], summary="2.6 标记GPU为故障")
async def fault(
    context: ContextOf,
    gpuId: str,
    reason: Annotated[str | None, Query()] = None,
) -> dict[str, Any]:
    name = clean(gpuId, "gpuId")
    if reason is None or not reason.strip() or len(reason) > MAX_REASON:
        raise BadRequest("reason", "必填，且不超过500个字符")
    why = clean(reason, "reason")
    context.deliver(await context.database.run(lambda c: gpus.fault(c, name, why)))
    return ok("GPU已标记为故障")


@router.post("/{gpuId}/recover", response_model=Envelope[str], summary="2.7 恢复GPU")
async def recover(context: ContextOf, gpuId: str) -> dict[str, Any]:
    name = clean(gpuId, "gpuId")
    strict = context.settings.vip_nodes_strict
    context.deliver(await context.database.run(lambda c: gpus.recover(c, name, strict_vip=strict)))
    return ok("GPU恢复成功")


@router.delete("/{gpuId}", response_model=Envelope[str], summary="2.8 注销GPU")
async def deregister(context: ContextOf, gpuId: str) -> dict[str, Any]:
    name = clean(gpuId, "gpuId")
    context.deliver(await context.database.run(lambda c: gpus.deregister(c, name)))
    return ok("GPU注销成功")

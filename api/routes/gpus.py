"""GPU endpoints (specification §2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from api.dependencies import Context, ContextOf
from api.http.body import JsonBody
from api.http.envelope import Envelope, ok, says
from api.http.errors import BadRequest
from api.http.lists import MAX_ANSWER, Item
from api.http.paging import WHOLE, WholeOrPageOf
from api.middleware.authentication import CallerOf
from api.routes.access import HoldsGpu
from api.schemas.gpus import DrainGpu, GpuNodeInfo, GpuSummary, RegisterGpu
from api.schemas.params import Integer, NodeId, Reason
from infra.db.access.callers import Caller
from infra.db.nodes import queries as node_queries
from infra.db.nodes.queries import ListedNode, Registration
from infra.db.transactions import change_node, node_state, register_node
from workflows.domain.command import Command
from workflows.domain.errors import GpuNotFound
from workflows.domain.gpu import PriorityQueue

router = APIRouter(prefix="/gpus", tags=["GPU管理"])

REGISTRATION = "X-Registration"
REGISTERED = {"description": "扩展：本次注册的标识（不透明），由之后的心跳携带", "schema": {"type": "string"}}
OUTDATED = {
    "description": "扩展：心跳携带的注册已被取代时为 outdated",
    "required": False,
    "schema": {"const": "outdated"},
}
BeatOfRegistration = Annotated[
    str | None,
    Header(
        alias=REGISTRATION,
        description="扩展（可选）：注册时收到的标识；该GPU之后又重新注册过时，心跳不生效并返回 400。缺省时照常生效",
    ),
]


class OutdatedRegistration(BadRequest):
    """400: another agent has registered the GPU since, or the value never named a registration."""

    def __init__(self) -> None:
        super().__init__(REGISTRATION, "已过期，该GPU已重新注册，本次心跳未生效", {REGISTRATION: "outdated"})


async def _with_beats(context: Context, nodes: Sequence[GpuSummary]) -> None:
    """Show the beats that have not reached Postgres yet."""
    beats = await context.beats.last([node.gpu_id for node in nodes])
    for node in nodes:
        node.last_beat = max(node.last_beat, beats.get(node.gpu_id, 0))


async def _items(context: Context, rows: Sequence[ListedNode]) -> list[Item]:
    """Entries of a list. Metadata that the database has left out is too large."""
    nodes = [GpuSummary.of(row) for row in rows]
    await _with_beats(context, nodes)
    texts = [row.metadata_json for row in rows]
    return [node.item(metadata=text and text.encode()) for node, text in zip(nodes, texts, strict=True)]


@router.get("", response_model=Envelope[list[GpuNodeInfo]], summary="2.1 获取GPU列表", description=WHOLE)
async def list_gpus(request: Request, context: ContextOf, caller: CallerOf, page: WholeOrPageOf) -> Response:
    lineage = caller.node_lineage
    rows, total = await context.database.run(
        lambda c: node_queries.page(c, lineage, limit=page.limit, offset=page.offset, room=MAX_ANSWER)
    )
    return await page.answer(request, await _items(context, rows), total)


@router.get(
    "/by-task-type/{taskType}",
    response_model=Envelope[list[GpuNodeInfo]],
    summary="2.3 按任务类型获取GPU列表",
    description=WHOLE,
)
async def by_task_type(
    request: Request,
    context: ContextOf,
    caller: CallerOf,
    page: WholeOrPageOf,
    task_type: Annotated[Integer, Path(alias="taskType", description="任务类型代码")],
    priority: Annotated[PriorityQueue | None, Query(description="节点的 supportedTaskPriority")] = None,
) -> Response:
    lineage = caller.node_lineage
    rows, total = await context.database.run(
        lambda c: node_queries.page(
            c, lineage, task_type, priority, limit=page.limit, offset=page.offset, room=MAX_ANSWER
        )
    )
    return await page.answer(request, await _items(context, rows), total)


@router.post(
    "/register",
    response_model=Envelope[str],
    summary="2.4 GPU注册",
    responses={200: says("GPU注册成功")[200] | {"headers": {REGISTRATION: REGISTERED}}},
)
async def register(
    response: Response,
    context: ContextOf,
    caller: CallerOf,
    body: Annotated[RegisterGpu, Depends(JsonBody(RegisterGpu))],
) -> dict[str, Any]:
    context.allowed.check(body.ip, body.port)
    node = Registration(**dict(body), lineage=caller.node_lineage)
    notifications, response.headers[REGISTRATION] = await context.database.run(
        lambda c: register_node.register(c, node, caller)
    )
    await context.deliver(notifications)
    await context.beats.record(body.gpu_id)
    return ok("GPU注册成功")


@router.get(
    "/{gpuId}", response_model=Envelope[GpuNodeInfo], response_model_exclude_unset=True, summary="2.2 获取指定GPU信息"
)
async def get_gpu(context: ContextOf, caller: CallerOf, gpu_id: NodeId) -> dict[str, Any]:
    row = await context.database.run(lambda c: node_queries.get(c, gpu_id, caller.node_lineage))
    if row is None:
        raise GpuNotFound
    node = GpuNodeInfo.of(row)
    await _with_beats(context, [node])
    return ok(node)


@router.post(
    "/{gpuId}/heartbeat",
    response_model=Envelope[str],
    summary="2.5 GPU心跳",
    responses=says("心跳更新成功") | {400: {"headers": {REGISTRATION: OUTDATED}}},
)
async def heartbeat(
    context: ContextOf, caller: CallerOf, gpu_id: NodeId, x_registration: BeatOfRegistration = None
) -> dict[str, Any]:
    row = await context.database.single(lambda c: node_queries.status_of(c, gpu_id))
    if row is None:
        raise GpuNotFound
    node_queries.check_own(row, caller.node_lineage)
    if x_registration and x_registration != node_queries.registration_of(row):
        raise OutdatedRegistration
    await context.beats.record(gpu_id)
    if row.status == "OFFLINE":
        await context.deliver(
            await context.database.run(lambda c: node_state.come_back(c, gpu_id, caller.node_lineage))
        )
    return ok("心跳更新成功")


async def _carry_out(context: Context, caller: Caller, command: Command, gpu_id: str, *said: Any) -> None:
    await context.deliver(
        await context.database.run(lambda c: change_node.carry_out(c, caller, command, gpu_id, *said))
    )


@router.post(
    "/{gpuId}/fault",
    response_model=Envelope[str],
    summary="2.6 标记GPU为故障",
    responses=says("GPU已标记为故障"),
    dependencies=[HoldsGpu],
)
async def fault(
    context: ContextOf,
    caller: CallerOf,
    gpu_id: NodeId,
    reason: Annotated[Reason, Query(description="故障原因")],
) -> dict[str, Any]:
    await _carry_out(context, caller, Command.FAULT, gpu_id, reason)
    return ok("GPU已标记为故障")


@router.post("/{gpuId}/recover", response_model=Envelope[str], summary="2.7 恢复GPU", responses=says("GPU恢复成功"))
async def recover(context: ContextOf, caller: CallerOf, gpu_id: NodeId) -> dict[str, Any]:
    await _carry_out(context, caller, Command.RECOVER, gpu_id)
    return ok("GPU恢复成功")


@router.post(
    "/{gpuId}/drain",
    response_model=Envelope[str],
    summary="扩展 停止派发新任务",
    responses=says("GPU已停止接收新任务"),
    description="不再向该节点派发新任务，正在执行的任务继续执行；到达 `deadline` 时仍在执行的任务被交回，"
    "不消耗重试次数。重启、重新注册和注销均不改变此状态，只有 undrain 使其结束。"
    "重复调用以最后一次的 `reason` 和 `deadline` 为准；但节点自身的密钥不改变他人发起的 drain 的 `reason`，"
    "`deadline` 取两者中较早的。",
    dependencies=[HoldsGpu],
)
async def drain(
    context: ContextOf, caller: CallerOf, gpu_id: NodeId, body: Annotated[DrainGpu, Depends(JsonBody(DrainGpu))]
) -> dict[str, Any]:
    await _carry_out(context, caller, Command.DRAIN, gpu_id, body.reason, body.deadline)
    return ok("GPU已停止接收新任务")


@router.post(
    "/{gpuId}/undrain",
    response_model=Envelope[str],
    summary="扩展 恢复派发任务",
    responses=says("GPU已恢复接收任务"),
    description="结束 drain，空闲槽位立即分配给等待中的任务。节点未处于 drain 时同样返回 200。",
)
async def undrain(context: ContextOf, caller: CallerOf, gpu_id: NodeId) -> dict[str, Any]:
    await _carry_out(context, caller, Command.UNDRAIN, gpu_id)
    return ok("GPU已恢复接收任务")


@router.delete(
    "/{gpuId}",
    response_model=Envelope[str],
    summary="2.8 注销GPU",
    responses=says("GPU注销成功"),
    dependencies=[HoldsGpu],
)
async def deregister(context: ContextOf, caller: CallerOf, gpu_id: NodeId) -> dict[str, Any]:
    await context.deliver(await context.database.run(lambda c: change_node.deregister(c, caller, gpu_id)))
    return ok("GPU注销成功")

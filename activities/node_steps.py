"""The steps of a node's life: do what its row demands, and ask it for its attempts before they are taken away."""

from __future__ import annotations

import time

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from infra import addresses
from infra.cache import Cache
from infra.db import alerts, attempts, gpus
from infra.db.alerts import NewAlert
from infra.db.attempts import Wakeups
from infra.db.engine import Database
from infra.node_client import NodeAddress, NodeClient, NodeUnreachable
from infra.settings import Settings
from infra.temporal import Engine
from workflows.domain.alert import AlertLevel
from workflows.domain.attempt import Outcome
from workflows.domain.errors import ForbiddenAddress
from workflows.domain.gpu import GpuStatus
from workflows.messages import NodeView

ACTOR = "gpu-health"
SOURCE = "gpu_monitor"
RUNNING = {"starting", "processing", "succeeded"}


class NodeSteps:
    """Implements `workflows.ports.NodeActivities`."""

    def __init__(self, database: Database, cache: Cache, engine: Engine, nodes: NodeClient, settings: Settings) -> None:
        self._database = database
        self._cache = cache
        self._engine = engine
        self._nodes = nodes
        self._settings = settings

    @activity.defn(name="attend_node")
    async def attend_node(self, gpu_id: str) -> NodeView:
        """One transaction: go OFFLINE on silence, close what a faulty or gone node holds, raise the alert."""
        remembered = await self._cache.beats([gpu_id])

        async def work(connection: AsyncConnection) -> tuple[NodeView, Wakeups]:
            if remembered:
                await gpus.record_beats(connection, remembered)
            return await self._attend(connection, gpu_id)

        view, wakeups = await self._database.run(work)
        await self._engine.deliver(wakeups)
        return view

    async def _attend(self, connection: AsyncConnection, gpu_id: str) -> tuple[NodeView, Wakeups]:
        strict = self._settings.vip_nodes_strict
        node = await gpus.get(connection, gpu_id)
        if node is None:
            wakeups = await attempts.close_open(
                connection, gpu_id, Outcome.DEREGISTERED, actor=ACTOR, reason="节点已注销", strict_vip=strict
            )
            return NodeView(None, 0, 0, 0), wakeups
        if node.status == GpuStatus.FAULTY:
            await alerts.raise_alert(connection, _fault_alert(node))
            reason = f"节点故障: {node.fault_reason or ''}"
            wakeups = await attempts.close_open(
                connection, gpu_id, Outcome.FAULTY, actor=ACTOR, reason=reason, strict_vip=strict
            )
            return _view(node, GpuStatus.FAULTY, 0), wakeups
        if await gpus.go_offline(connection, gpu_id, self._settings.heartbeat_timeout):
            await alerts.raise_alert(connection, _offline_alert(node))
            node = await gpus.get(connection, gpu_id)
            assert node is not None
        return _view(node, GpuStatus(node.status), node.current_tasks), Wakeups()

    @activity.defn(name="confirm_attempts")
    async def confirm_attempts(self, gpu_id: str) -> NodeView:
        """Ask the node for each open attempt in question; release what it does not confirm."""
        node = await self._database.run(lambda c: gpus.get(c, gpu_id))
        if node is None:
            return await self.attend_node(gpu_id)
        for row in await self._database.run(lambda c: attempts.open_on(c, gpu_id)):
            if not _in_question(node, row):
                continue
            if await self._confirmed(node, row) and not self._hold_is_over(node):
                await self._keep(node, row)
            else:
                await self._release(node, row)
        left = await self._database.run(lambda c: gpus.get(c, gpu_id))
        return NodeView(None, 0, 0, 0) if left is None else _view(left, GpuStatus(left.status), left.current_tasks)

    async def _confirmed(self, node: Row[tuple[object, ...]], row: Row[tuple[object, ...]]) -> bool:
        try:
            addresses.check(self._settings, row.ip, row.port)
            answer = await self._nodes.status(
                NodeAddress(row.ip, row.port, node.dispatch_secret), f"{row.task_id}-{row.attempt}"
            )
        except (NodeUnreachable, ForbiddenAddress):
            return False
        return bool(answer.status == 200 and answer.body.get("status") in RUNNING)

    def _hold_is_over(self, node: Row[tuple[object, ...]]) -> bool:
        """A silent node keeps its tasks for at most one more grace, even where it confirms them."""
        held = time.time() - node.status_since.timestamp()
        return bool(node.status == GpuStatus.OFFLINE and held >= self._settings.heartbeat_timeout)

    async def _keep(self, node: Row[tuple[object, ...]], row: Row[tuple[object, ...]]) -> None:
        if row.gpu_epoch != node.epoch and node.status == GpuStatus.ACTIVE:
            await self._database.run(lambda c: gpus.adopt(c, row.task_id, row.attempt, node.epoch))

    async def _release(self, node: Row[tuple[object, ...]], row: Row[tuple[object, ...]]) -> None:
        lost = node.status == GpuStatus.OFFLINE
        wakeups = await self._database.run(
            lambda c: attempts.settle(
                c,
                row.task_id,
                row.attempt,
                Outcome.LOST if lost else Outcome.DEREGISTERED,
                actor=ACTOR,
                reason="节点失去联系" if lost else "节点重新注册后不再运行该任务",
                strict_vip=self._settings.vip_nodes_strict,
            )
        )
        if wakeups is not None:
            await self._engine.deliver(wakeups)


def _in_question(node: Row[tuple[object, ...]], row: Row[tuple[object, ...]]) -> bool:
    """All of a silent node; of an active one those of an earlier registration."""
    return bool(node.status == GpuStatus.OFFLINE or row.gpu_epoch != node.epoch)


def _view(node: Row[tuple[object, ...]], status: GpuStatus, open_attempts: int) -> NodeView:
    silent = 0.0 if node.last_beat is None else max(0.0, time.time() - node.last_beat.timestamp())
    in_question = status is GpuStatus.OFFLINE or (status is GpuStatus.ACTIVE and node.older_attempts > 0)
    return NodeView(status, node.epoch, silent, open_attempts, open_attempts > 0 and in_question)


def _fault_alert(node: Row[tuple[object, ...]]) -> NewAlert:
    return NewAlert(
        dedupe_key=f"fault:{node.gpu_id}:{node.status_since.timestamp()}",
        title="GPU故障告警",
        message=f"GPU节点 {node.gpu_id} 检测到故障: {node.fault_reason or '未说明原因'}",
        level=AlertLevel.CRITICAL,
        source=SOURCE,
    )


def _offline_alert(node: Row[tuple[object, ...]]) -> NewAlert:
    return NewAlert(
        dedupe_key=f"offline:{node.gpu_id}:{node.last_beat.timestamp()}",
        title="GPU离线告警",
        message=f"GPU节点 {node.gpu_id} 心跳超时，已离线",
        level=AlertLevel.WARNING,
        source=SOURCE,
    )

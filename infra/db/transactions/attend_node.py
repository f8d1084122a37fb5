"""Act on a node's row for its workflow: a silent node goes OFFLINE, a faulty or gone one keeps no attempt."""

from __future__ import annotations

from infra.db import locks
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.liveness import find
from infra.db.nodes.queries import NodeStatus, RegisteredNode
from infra.db.transactions import settle_attempt
from workflows.domain.attempt import End, Outcome
from workflows.domain.gpu import GpuStatus
from workflows.domain.system_actor import SystemActor
from workflows.notifications import Notifications


async def go_offline(connection: Connection, gpu_id: str, grace_s: float) -> bool:
    """ACTIVE → OFFLINE if the node is silent and not held."""
    await node_queries.hold(connection, gpu_id)
    silence = await find(connection, grace_s)
    return gpu_id in dict(silence.lapsed) and await node_transitions.go_offline(connection, gpu_id)


async def attend(connection: Connection, gpu_id: str, grace_s: float) -> tuple[RegisteredNode | None, Notifications]:
    """Act on the row, and note that it was seen. Returns the row afterwards, None of a node that has gone.

    The row is read under its lock. A node that has just become faulty or gone, before the lock was held, keeps its
    attempts until the next call: that change has its own signal.
    """
    keeps_none = _keeps_none(await node_queries.status_of(connection, gpu_id))
    if keeps_none:
        await locks.releasing(connection, gpu_id)  # before the row
    await node_queries.hold(connection, gpu_id)
    node, notifications = await node_queries.get(connection, gpu_id), Notifications()
    if not _keeps_none(node):
        changed = _is_past_grace(node, grace_s) and await go_offline(connection, gpu_id, grace_s)
    elif keeps_none:
        notifications = await settle_attempt.close_open(connection, gpu_id, _end(node), actor=SystemActor.NODE_WORKFLOW)
        changed = True
    else:
        return node, notifications
    if changed:
        node = await node_queries.get(connection, gpu_id)
    if node is not None and not node.is_back:  # otherwise the stops come first
        await node_transitions.attended(connection, gpu_id, node.epoch, node.status)
    return node, notifications


def _keeps_none(node: RegisteredNode | NodeStatus | None) -> bool:
    return node is None or node.status == GpuStatus.FAULTY


def _is_past_grace(node: RegisteredNode | None, grace_s: float) -> bool:
    """Whether it may have to go OFFLINE: nodes that beat must not cost a look at the whole fleet."""
    return node is not None and node.status == GpuStatus.ACTIVE and node.silent_s > grace_s


def _end(node: RegisteredNode | None) -> End:
    if node is None:
        return End(Outcome.DEREGISTERED, "节点已注销")
    return End(Outcome.FAULTY, f"节点故障: {node.fault_reason or ''}")

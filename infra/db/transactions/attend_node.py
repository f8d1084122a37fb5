"""Act on a node's row for its workflow: a silent node goes OFFLINE, a faulty or gone one keeps no attempt."""

from __future__ import annotations

from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.liveness import find
from infra.db.nodes.queries import Node
from infra.db.transactions import settle_attempt
from workflows.domain.attempt import End, Outcome
from workflows.domain.gpu import GpuStatus
from workflows.notifications import Notifications

ACTOR = "gpu-health"


async def go_offline(connection: Connection, gpu_id: str, grace_s: float) -> bool:
    """ACTIVE → OFFLINE if the node is silent and not held."""
    await node_queries.hold(connection, gpu_id)
    silence = await find(connection, grace_s)
    return gpu_id in dict(silence.lapsed) and await node_transitions.go_offline(connection, gpu_id)


async def attend(connection: Connection, gpu_id: str, grace_s: float) -> tuple[Node | None, Notifications]:
    """Act on the row, and note that it was seen. Returns the row afterwards, None of a node that has gone."""
    node = await node_queries.get(connection, gpu_id)
    notifications = Notifications()
    if node is None:
        end = End(Outcome.DEREGISTERED, "节点已注销")
        notifications = await settle_attempt.close_open(connection, gpu_id, end, actor=ACTOR)
    elif node.status == GpuStatus.FAULTY:
        end = End(Outcome.FAULTY, f"节点故障: {node.fault_reason or ''}")
        notifications = await settle_attempt.close_open(connection, gpu_id, end, actor=ACTOR)
    else:
        await go_offline(connection, gpu_id, grace_s)
    if node is None or not node.is_back:  # else the stops come first
        await node_transitions.attended(connection, gpu_id)
    return await node_queries.get(connection, gpu_id), notifications

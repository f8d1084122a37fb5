"""What a node's row demands, for its workflow: a silent node goes OFFLINE, a faulty or gone one keeps no attempt."""

from __future__ import annotations

from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.liveness import find
from infra.db.nodes.queries import Node
from infra.db.transactions import settle_attempt
from infra.temporal.notifications import Notifications
from workflows.domain.attempt import Outcome
from workflows.domain.gpu import GpuStatus

ACTOR = "gpu-health"

_LOCK = "SELECT FROM gpus WHERE gpu_id = %(gpu_id)s FOR UPDATE"


async def go_offline(connection: Connection, gpu_id: str, grace_s: float) -> bool:
    """ACTIVE → OFFLINE if the node is silent and not held."""
    await connection.execute(_LOCK, {"gpu_id": gpu_id})
    silence = await find(connection, grace_s)
    return gpu_id in dict(silence.lapsed) and await node_transitions.go_offline(connection, gpu_id)


async def attend(connection: Connection, gpu_id: str, grace_s: float) -> tuple[Node | None, Notifications]:
    """Act on the row, and note that it was seen. Returns the row afterwards, None of a node that has gone."""
    node = await node_queries.get(connection, gpu_id)
    notifications = Notifications()
    if node is None:
        notifications = await _close_all(connection, gpu_id, Outcome.DEREGISTERED, "节点已注销")
    elif node.status == GpuStatus.FAULTY:
        notifications = await _close_all(connection, gpu_id, Outcome.FAULTY, f"节点故障: {node.fault_reason or ''}")
    else:
        await go_offline(connection, gpu_id, grace_s)
    await node_transitions.attended(connection, gpu_id)
    return await node_queries.get(connection, gpu_id), notifications


async def _close_all(connection: Connection, gpu_id: str, outcome: Outcome, reason: str) -> Notifications:
    return await settle_attempt.close_open(connection, gpu_id, outcome, actor=ACTOR, reason=reason)

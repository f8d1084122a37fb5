"""A node's registration, within the limits of its key."""

from __future__ import annotations

from infra.db.access import audit
from infra.db.access.audit import Action
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.nodes import key_limits
from infra.db.nodes import queries as node_queries
from infra.db.nodes.queries import Registration
from infra.db.transactions import node_state
from workflows.notifications import Notifications


async def register(connection: Connection, node: Registration, by: Caller) -> tuple[Notifications, str]:
    """Register a node, and record it. Returns what to send, and the registration's id (`X-Registration`).

    Raises BeyondKeyLimits, GpuOfAnotherKey.
    """
    await key_limits.check(connection, by.limits, node)
    notifications = await node_state.register(connection, node)
    await audit.record(connection, by, Action.GPU_REGISTER, node.gpu_id, f"{node.ip} port {node.port}")
    return notifications, await node_queries.registration(connection, node.gpu_id)

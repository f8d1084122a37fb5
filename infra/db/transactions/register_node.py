"""A node's registration, within the limits of its key."""

from __future__ import annotations

from infra.db import audit, fleets, gpus
from infra.db.audit import Action
from infra.db.connection import Connection
from infra.db.gpus import Registration
from infra.db.keys import Caller
from infra.db.notifications import Notifications


async def register(connection: Connection, node: Registration, by: Caller) -> tuple[Notifications, str]:
    """Register a node, and record it. Returns what to send, and the registration's id (`X-Registration`).

    Raises BeyondGrants, GpuOfAnotherKey.
    """
    await fleets.check(connection, by.grants, node)
    notifications = await gpus.register(connection, node)
    await audit.record(connection, by, Action.GPU_REGISTER, node.gpu_id, f"{node.ip} port {node.port}")
    return notifications, await gpus.registration(connection, node.gpu_id)

"""A caller's changes of a node's state, each with its entry in the audit log. Each returns what to send; raises
GpuNotFound."""

from __future__ import annotations

from infra.db import clock
from infra.db.connection import Connection
from infra.db.nodes.drains import Drain
from infra.db.ops import audit
from infra.db.ops.api_keys import Caller
from infra.db.ops.audit import Action
from infra.db.transactions import node_state
from infra.temporal.notifications import Notifications


async def fault(connection: Connection, by: Caller, gpu_id: str, reason: str) -> Notifications:
    """Make a node FAULTY."""
    notifications = await node_state.fault(connection, gpu_id, reason)
    await audit.record(connection, by, Action.GPU_FAULT, gpu_id, reason, changed=bool(notifications))
    return notifications


async def recover(connection: Connection, by: Caller, gpu_id: str) -> Notifications:
    """Make a FAULTY node ACTIVE."""
    notifications = await node_state.recover(connection, gpu_id)
    await audit.record(connection, by, Action.GPU_RECOVER, gpu_id, changed=bool(notifications))
    return notifications


async def drain(connection: Connection, by: Caller, gpu_id: str, reason: str, deadline_ms: int | None) -> Notifications:
    """Give a node no new attempt."""
    notifications = await node_state.drain(connection, gpu_id, Drain(by.owner, reason, clock.moment(deadline_ms)))
    await audit.record(connection, by, Action.GPU_DRAIN, gpu_id, reason, changed=bool(notifications))
    return notifications


async def undrain(connection: Connection, by: Caller, gpu_id: str) -> Notifications:
    """Give it new attempts again."""
    notifications = await node_state.undrain(connection, gpu_id)
    await audit.record(connection, by, Action.GPU_UNDRAIN, gpu_id, changed=bool(notifications))
    return notifications


async def deregister(connection: Connection, by: Caller, gpu_id: str) -> Notifications:
    """Remove a node."""
    notifications = await node_state.deregister(connection, gpu_id)
    await audit.record(connection, by, Action.GPU_DEREGISTER, gpu_id, changed=bool(notifications))
    return notifications

"""A person's changes of a node's state, by call or by signal, each with its entry in the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from infra.db import clock
from infra.db.access import audit
from infra.db.access.audit import Action, By
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.nodes.drains import Drain
from infra.db.transactions import node_state
from workflows.domain.command import Command
from workflows.domain.role import Role
from workflows.notifications import Notifications

Transition = Callable[[Connection, str, Drain, str | None], Awaitable[Notifications]]

COMMANDS: dict[Command, tuple[Action, Transition]] = {
    Command.FAULT: (Action.GPU_FAULT, lambda c, gpu_id, said, of: node_state.fault(c, gpu_id, said.reason, of)),
    Command.RECOVER: (Action.GPU_RECOVER, lambda c, gpu_id, _, of: node_state.recover(c, gpu_id, of)),
    Command.DRAIN: (Action.GPU_DRAIN, node_state.drain),
    Command.UNDRAIN: (Action.GPU_UNDRAIN, lambda c, gpu_id, _, of: node_state.undrain(c, gpu_id, of)),
}


async def carry_out(
    connection: Connection, by: By, command: Command, gpu_id: str, reason: str = "", deadline_ms: int | None = None
) -> Notifications:
    """Make the command's transition, and record it. Raises GpuNotFound, GpuOfAnotherKey."""
    action, transition = COMMANDS[command]
    said = Drain(by.owner, reason, clock.moment(deadline_ms), by_node=by.role == Role.NODE)
    notifications = await transition(connection, gpu_id, said, by.node_lineage)
    await audit.record(connection, by, action, gpu_id, reason, changed=bool(notifications))
    return notifications


async def deregister(connection: Connection, by: Caller, gpu_id: str) -> Notifications:
    """Remove a node. Raises GpuNotFound, GpuOfAnotherKey."""
    notifications = await node_state.deregister(connection, gpu_id, by.node_lineage)
    await audit.record(connection, by, Action.GPU_DEREGISTER, gpu_id, changed=bool(notifications))
    return notifications

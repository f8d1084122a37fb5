"""A person's commands to a node, by signals to its workflow: the transaction of the REST call, once for each signal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from infra.db import locks
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.ops import audit
from infra.db.ops.audit import Action, Actor
from infra.db.transactions import node_state
from infra.json import strict_json
from infra.temporal.notifications import Notifications
from workflows.domain.command import Command
from workflows.messages import NodeCommand

ACTOR = "temporal"
NO_REASON = "通过 Temporal 信号操作，未说明原因"

Transition = Callable[[Connection, str, str], Awaitable[Notifications]]


async def _recover(connection: Connection, gpu_id: str, _: str) -> Notifications:
    return await node_state.recover(connection, gpu_id)


COMMANDS: dict[Command, tuple[Action, Transition]] = {
    Command.FAULT: (Action.GPU_FAULT, node_state.fault),
    Command.RECOVER: (Action.GPU_RECOVER, _recover),
}


async def obey(connection: Connection, command: NodeCommand) -> Notifications:
    """Make the transition and record it; nothing where that was done before. Raises GpuNotFound."""
    gpu_id, reason = command.gpu_id, _one_line(command.reason)
    by = Actor(f"{ACTOR}:{command.signal}", ACTOR, None)
    await locks.release(connection, gpu_id)
    await node_queries.hold(connection, gpu_id)
    if await audit.has_entry_of(connection, by):
        return Notifications()
    action, transition = COMMANDS[command.command]
    notifications = await transition(connection, gpu_id, reason)
    await audit.record(connection, by, action, gpu_id, reason, changed=bool(notifications))
    return notifications


def _one_line(reason: str) -> str:
    return " ".join(strict_json.UNPRINTABLE.sub(" ", reason).split()) or NO_REASON

"""A person's commands to a node, by signals to its workflow: the transaction of the REST call, once for each signal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from infra.db import clock, locks
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.nodes.drains import Drain
from infra.db.ops import audit
from infra.db.ops.audit import Action, Actor
from infra.db.transactions import node_state
from infra.json import strict_json
from infra.temporal.notifications import Notifications
from workflows.domain.command import Command
from workflows.messages import NodeCommand

ACTOR = "temporal"
NO_REASON = "通过 Temporal 信号操作，未说明原因"

Transition = Callable[[Connection, NodeCommand], Awaitable[Notifications]]


async def _fault(connection: Connection, command: NodeCommand) -> Notifications:
    return await node_state.fault(connection, command.gpu_id, command.reason)


async def _recover(connection: Connection, command: NodeCommand) -> Notifications:
    return await node_state.recover(connection, command.gpu_id)


async def _drain(connection: Connection, command: NodeCommand) -> Notifications:
    """Without a deadline that has passed: a slip of the hand, seconds for milliseconds, must stop no task."""
    deadline = clock.moment(command.deadline_ms)
    is_to_come = deadline is not None and deadline > datetime.now(UTC)
    how = Drain(ACTOR, command.reason, deadline if is_to_come else None)
    return await node_state.drain(connection, command.gpu_id, how)


async def _undrain(connection: Connection, command: NodeCommand) -> Notifications:
    return await node_state.undrain(connection, command.gpu_id)


COMMANDS: dict[Command, tuple[Action, Transition]] = {
    Command.FAULT: (Action.GPU_FAULT, _fault),
    Command.RECOVER: (Action.GPU_RECOVER, _recover),
    Command.DRAIN: (Action.GPU_DRAIN, _drain),
    Command.UNDRAIN: (Action.GPU_UNDRAIN, _undrain),
}


async def obey(connection: Connection, command: NodeCommand) -> Notifications:
    """Make the transition and record it; nothing where that was done before. Raises GpuNotFound."""
    command = replace(command, reason=_one_line(command.reason))
    gpu_id = command.gpu_id
    by = Actor(f"{ACTOR}:{command.signal}", ACTOR, None)
    await locks.release(connection, gpu_id)
    await node_queries.hold(connection, gpu_id)
    if await audit.has_entry_of(connection, by):
        return Notifications()
    action, transition = COMMANDS[command.command]
    notifications = await transition(connection, command)
    await audit.record(connection, by, action, gpu_id, command.reason, changed=bool(notifications))
    return notifications


def _one_line(reason: str) -> str:
    return " ".join(strict_json.UNPRINTABLE.sub(" ", reason).split()) or NO_REASON

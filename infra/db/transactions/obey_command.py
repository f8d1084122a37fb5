"""A person's commands to a node, by signals to its workflow: the transaction of the REST call, once for each signal."""

from __future__ import annotations

import time

from infra.db import locks
from infra.db.access import audit
from infra.db.access.audit import Actor
from infra.db.connection import Connection
from infra.db.nodes import queries as node_queries
from infra.db.transactions import change_node
from infra.json import strict_json
from workflows.domain.system_actor import SystemActor
from workflows.messages import NodeCommand
from workflows.notifications import Notifications

NO_REASON = "通过 Temporal 信号操作，未说明原因"


async def obey(connection: Connection, command: NodeCommand) -> Notifications:
    """Carry the command out; nothing where that was done before. Raises GpuNotFound.

    A deadline that has passed is ignored: a slip of the hand, seconds for milliseconds, must stop no task.
    """
    gpu_id, deadline_ms = command.gpu_id, command.deadline_ms
    by = Actor(f"{SystemActor.PERSON}:{command.signal}", SystemActor.PERSON, None)
    await locks.releasing(connection, gpu_id)
    await node_queries.hold(connection, gpu_id)
    if await audit.has_entry_of(connection, by):
        return Notifications()
    is_to_come = deadline_ms is not None and deadline_ms > time.time() * 1000
    return await change_node.carry_out(
        connection, by, command.command, gpu_id, _one_line(command.reason), deadline_ms if is_to_come else None
    )


def _one_line(reason: str) -> str:
    return " ".join(strict_json.UNPRINTABLE.sub(" ", reason).split()) or NO_REASON

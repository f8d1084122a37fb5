"""A node has accepted an attempt: its task is PROCESSING."""

from __future__ import annotations

from infra.db.connection import Connection
from infra.db.nodes import records as node_records
from infra.db.tasks import transitions as task_transitions

# Skipped if the node's row is locked: waiting for it while an attempt is held could block both for good.
_REACHED_IF_FREE = (
    f"UPDATE gpus g SET {node_records.REACHED}"
    " WHERE gpu_id = (SELECT gpu_id FROM gpus WHERE gpu_id = %(gpu_id)s FOR UPDATE SKIP LOCKED)"
)


async def accept(connection: Connection, task_id: str, attempt: int, *, actor: str, reason: str | None = None) -> bool:
    """The node runs the attempt: the task is PROCESSING from now on. False if the attempt is closed.

    `reason` are the node's own words, for the timeline.

    One statement as a rule; needs no transaction.
    """
    row = await task_transitions.accept(connection, task_id, attempt, actor, reason)
    if row is None:
        return False
    if row.was_away:
        await connection.execute(_REACHED_IF_FREE, {"gpu_id": row.gpu_id})
    return True

"""A silent node goes OFFLINE."""

from __future__ import annotations

from sqlalchemy import text

from infra.db.connection import Connection
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.liveness import find

_LOCK = text("SELECT FROM gpus WHERE gpu_id = :gpu_id FOR UPDATE")


async def go_offline(connection: Connection, gpu_id: str, grace_s: float) -> bool:
    """ACTIVE → OFFLINE if the node is silent and not held."""
    await connection.execute(_LOCK, {"gpu_id": gpu_id})
    silence = await find(connection, grace_s)
    return gpu_id in dict(silence.lapsed) and await node_transitions.go_offline(connection, gpu_id)

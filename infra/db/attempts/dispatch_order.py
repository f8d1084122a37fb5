"""What a dispatch needs to know, in one read."""

from __future__ import annotations

from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.tasks import limits
from infra.nodes.address import NodeAddress

ANSWER_S = 5.0
"""How close the expiry of a task may be for its node to hold the answer: until the answer the task has not started."""

_ORDER = f"""
    SELECT t.task_id, a.attempt, a.gpu_id, a.token, a.ip, a.port, g.dispatch_secret AS secret, t.task_type, t.app,
           t.user_id, t.env, t.timeout_ms, t.payload, t.traceparent,
           CASE WHEN a.accepted_at IS NULL THEN {limits.passed("t")} END AS past,
           {limits.expires_within("t", ANSWER_S)} AS expires_soon
      FROM attempts a JOIN tasks t USING (task_id) JOIN gpus g ON g.gpu_id = a.gpu_id
     WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s AND a.closed_at IS NULL
    """
_ADDRESS = (
    "SELECT a.ip, a.port, g.dispatch_secret AS secret FROM attempts a JOIN gpus g USING (gpu_id)"
    " WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s AND (a.closed_at IS NOT NULL) = %(closed)s"
)
_IS_ON_ACTIVE_NODE = (
    "SELECT EXISTS (SELECT FROM attempts a JOIN gpus g USING (gpu_id) WHERE a.task_id = %(task_id)s"
    " AND a.attempt = %(attempt)s AND g.status = 'ACTIVE' AND g.gone_at IS NULL)"
)


@dataclass(frozen=True)
class Order:
    """An open attempt with all that the node is sent."""

    task_id: str
    attempt: int
    gpu_id: str
    token: str
    ip: str
    port: int
    secret: str | None
    task_type: int
    app: str
    user_id: str
    env: str | None
    timeout_ms: int
    payload: str
    traceparent: str | None
    past: str | None = None  # the limit of the task that has passed, while no node has accepted the attempt
    expires_soon: bool = False


async def order(connection: Connection, task_id: str, attempt: int) -> Order | None:
    """The dispatch of an open attempt; None where it is closed."""
    return await connection.one_or_none(Order, _ORDER, {"task_id": task_id, "attempt": attempt})


async def address(connection: Connection, task_id: str, attempt: int, *, closed: bool) -> NodeAddress | None:
    """The address of an attempt's node; None unless the attempt is `closed`, or open, as the caller expects."""
    return await connection.one_or_none(
        NodeAddress, _ADDRESS, {"task_id": task_id, "attempt": attempt, "closed": closed}
    )


async def is_on_active_node(connection: Connection, task_id: str, attempt: int) -> bool:
    """Whether the attempt's node is ACTIVE."""
    return await connection.one(bool, _IS_ON_ACTIVE_NODE, {"task_id": task_id, "attempt": attempt})

"""Reading attempts: by token, by holder, by node."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db import holding
from infra.db.attempts import dispatch_request
from infra.db.connection import Connection
from infra.nodes.address import NodeAddress

_ON_NODE = (
    f"SELECT a.task_id, a.attempt, a.gpu_epoch, a.slot, a.ip, a.port, {dispatch_request.CREDENTIAL} AS secret"
    "  FROM attempts a JOIN gpus g USING (gpu_id)"
)
_OPEN_ON = f"{_ON_NODE} WHERE a.gpu_id = %(gpu_id)s AND a.closed_at IS NULL"
_TO_STOP_ON = f"{_ON_NODE} WHERE a.gpu_id = %(gpu_id)s AND {holding.IS_TO_STOP} ORDER BY a.closed_at DESC LIMIT 100"
_OF_TASK = """
    SELECT attempt, gpu_id, slot, claimed_at, accepted_at, progress, progress_at, closed_at, released_at, outcome,
           reason
      FROM attempts WHERE task_id = %(task_id)s ORDER BY attempt DESC LIMIT %(limit)s
    """
_HOLDERS = """
    SELECT a.token, a.gpu_id, COALESCE(g.lineage = %(lineage)s, CAST(%(lineage)s AS text) IS NULL) AS own
      FROM attempts a LEFT JOIN gpus g USING (gpu_id) WHERE a.task_id = %(task_id)s
    """
_FIND = """
    SELECT a.task_id, a.attempt, a.token, a.gpu_id, a.closed_at, a.outcome, a.reason, r.result,
           t.purged_at IS NOT NULL AS purged
      FROM attempts a JOIN tasks t USING (task_id) LEFT JOIN task_results r USING (task_id, attempt)
     WHERE a.task_id = %(task_id)s AND a.token = %(token)s
    """
_ADDRESS = (
    f"SELECT a.ip, a.port, {dispatch_request.CREDENTIAL} AS secret FROM attempts a JOIN gpus g USING (gpu_id)"
    " WHERE a.task_id = %(task_id)s AND a.attempt = %(attempt)s AND (a.closed_at IS NOT NULL) = %(closed)s"
)
_IS_ON_ACTIVE_NODE = (
    "SELECT EXISTS (SELECT FROM attempts a JOIN gpus g USING (gpu_id) WHERE a.task_id = %(task_id)s"
    " AND a.attempt = %(attempt)s AND g.status = 'ACTIVE' AND g.gone_at IS NULL)"
)
_IS_CLOSED_WITHOUT_ITS_NODE = (
    "SELECT EXISTS (SELECT FROM attempts WHERE task_id = %(task_id)s AND attempt = %(attempt)s"
    f" AND {holding.IS_CLOSED_WITHOUT_ITS_NODE})"
)


@dataclass(frozen=True)
class NamedAttempt:
    """An attempt that a report names, with its result. `purged`: that is forgotten, and `result` holds nothing."""

    task_id: str
    attempt: int
    token: str
    gpu_id: str
    closed_at: datetime | None
    outcome: str | None
    reason: str | None
    result: str | None
    purged: bool


@dataclass(frozen=True)
class OfTask:
    """An attempt as a task's history shows it. `progress` is the node's own, in percent."""

    attempt: int
    gpu_id: str
    slot: int
    claimed_at: datetime
    accepted_at: datetime | None
    progress: int | None
    progress_at: datetime | None
    closed_at: datetime | None
    released_at: datetime | None
    outcome: str | None
    reason: str | None


@dataclass(frozen=True)
class Holder:
    """The node of an attempt; `own`: it is of the lineage in question."""

    token: str
    gpu_id: str
    own: bool | None


@dataclass(frozen=True)
class AttemptOnNode:
    """An attempt of a node: open, or taken from it."""

    task_id: str
    attempt: int
    gpu_epoch: int
    slot: int
    ip: str
    port: int
    secret: str | None

    @property
    def node(self) -> NodeAddress:
        """Where its node was when it was claimed."""
        return NodeAddress(self.ip, self.port, self.secret)


async def find(connection: Connection, task_id: str, token: str) -> NamedAttempt | None:
    """The task's attempt that has this token, or None."""
    return await connection.one_or_none(NamedAttempt, _FIND, {"task_id": task_id, "token": token})


async def of_task(connection: Connection, task_id: str, *, limit: int) -> list[OfTask]:
    """The task's latest attempts, the latest first."""
    return await connection.all(OfTask, _OF_TASK, {"task_id": task_id, "limit": limit})


async def holders(connection: Connection, task_id: str, lineage: str | None) -> list[Holder]:
    """The nodes of the task's attempts. Without a lineage all are `own`."""
    return await connection.all(Holder, _HOLDERS, {"task_id": task_id, "lineage": lineage})


async def open_on(connection: Connection, gpu_id: str) -> list[AttemptOnNode]:
    """The open attempts of a node."""
    return await connection.all(AttemptOnNode, _OPEN_ON, {"gpu_id": gpu_id})


async def to_stop_on(connection: Connection, gpu_id: str) -> list[AttemptOnNode]:
    """The closed attempts that a node may still run, and has not confirmed to have stopped: the latest hundred."""
    return await connection.all(AttemptOnNode, _TO_STOP_ON, {"gpu_id": gpu_id})


async def address(connection: Connection, task_id: str, attempt: int, *, closed: bool) -> NodeAddress | None:
    """The address of an attempt's node; None unless the attempt is `closed`, or open, as the caller expects."""
    return await connection.one_or_none(
        NodeAddress, _ADDRESS, {"task_id": task_id, "attempt": attempt, "closed": closed}
    )


async def is_closed_without_its_node(connection: Connection, task_id: str, attempt: int) -> bool:
    """Whether the attempt was closed by anything but its node's report: the node may not know of it."""
    return await connection.one(bool, _IS_CLOSED_WITHOUT_ITS_NODE, {"task_id": task_id, "attempt": attempt})


async def is_on_active_node(connection: Connection, task_id: str, attempt: int) -> bool:
    """Whether the attempt's node is ACTIVE."""
    return await connection.one(bool, _IS_ON_ACTIVE_NODE, {"task_id": task_id, "attempt": attempt})

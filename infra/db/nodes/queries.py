"""Reading nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, NamedTuple

from infra.db import clock, holding
from infra.db.connection import Connection
from infra.db.slots import eligibility
from workflows.domain.errors import GpuNotFound, GpuOfAnotherKey


@dataclass(frozen=True)
class NodeDescription:
    """The fields with which a node registers, and which are shown."""

    gpu_id: str
    hostname: str
    vast_ins_id: str | None
    ip: str
    port: int
    task_types: list[int]
    priority_queue: str
    version: str
    max_concurrent_tasks: int


@dataclass(frozen=True)
class Registration(NodeDescription):
    """A node's own description (specification §2.4)."""

    metadata: dict[str, object]
    dispatch_secret: str | None
    lineage: str | None  # of the registering node's key, or None for an administrator, who holds no gpuId


class NodeDrain(NamedTuple):
    """A node's drain; `remaining` attempts still hold its slots."""

    by: str
    since: datetime
    reason: str
    deadline: datetime | None
    remaining: int


@dataclass(frozen=True)
class NodeInfo(NodeDescription):
    """The public fields of a node, without its metadata."""

    status: str
    failure_count: int
    task_failure_count: int
    last_beat: datetime | None
    current_tasks: int
    drained_at: datetime | None
    drained_by: str | None
    drain_reason: str | None
    drain_deadline: datetime | None

    @property
    def draining(self) -> bool:
        """Whether it gets no new attempt until it is undrained."""
        return self.drained_at is not None

    @property
    def drain(self) -> NodeDrain | None:
        """Its drain."""
        if self.drained_at is None:
            return None
        by, reason = self.drained_by or "", self.drain_reason or ""
        return NodeDrain(by, self.drained_at, reason, self.drain_deadline, self.current_tasks)


@dataclass(frozen=True)
class ListedNode(NodeInfo):
    """A node in a list; `metadata_json` is a JSON text, or None where it did not fit."""

    metadata_json: str | None


@dataclass(frozen=True)
class RegisteredNode(NodeInfo):
    """A registered node."""

    metadata: Any
    epoch: int
    fault_reason: str | None
    silent_s: float
    status_age_s: float
    """Infinite if the clock was set back since."""
    open_attempts: int
    older_attempts: int
    """Open attempts of earlier registrations."""
    is_back: bool
    """Whether the node gets work again, and has not been asked yet to stop the closed attempts that it may still
    run."""


@dataclass(frozen=True)
class GoneNode(RegisteredNode):
    """A deregistered node, as it was."""

    gone_at: datetime


class _State(NamedTuple):
    gpu_id: str
    status: str


@dataclass(frozen=True)
class NodeStatus:
    """The fields of a node that a beat needs."""

    gpu_id: str
    status: str
    epoch: int
    registered_at: datetime
    lineage: str | None


_COMPUTED = {"last_beat": clock.known("b.at"), "current_tasks": eligibility.used("g")}
"""Fields of a `NodeInfo` that are no columns of its row."""
_OWN = ", ".join(f"g.{one.name}" for one in fields(NodeInfo) if one.name not in _COMPUTED)
_INFO = ", ".join([_OWN, *(f"{value} AS {name}" for name, value in _COMPUTED.items())])
_WHOLE = f"""{_INFO}, g.metadata, g.epoch, g.fault_reason,
           COALESCE(GREATEST(extract(epoch FROM clock_timestamp() - b.at), 0), 0)::float AS silent_s,
           {clock.age_s("g.status_since")} AS status_age_s,
           (SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL) AS open_attempts,
           (SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL
               AND a.gpu_epoch <> g.epoch) AS older_attempts,
           {holding.IS_BACK} AS is_back"""
_FROM = "FROM gpus g LEFT JOIN gpu_beats b USING (gpu_id) WHERE g.gpu_id = %(gpu_id)s"
_OF_LINEAGE = " AND (CAST(%(lineage)s AS text) IS NULL OR g.lineage = %(lineage)s)"
_GET = f"SELECT {_WHOLE} {_FROM} AND g.gone_at IS NULL{_OF_LINEAGE}"
_GONE = f"SELECT {_WHOLE}, g.gone_at {_FROM} AND g.gone_at IS NOT NULL"
_LISTED = "g.gone_at IS NULL" + _OF_LINEAGE
_OF_TYPE = (
    f"{_LISTED} AND {eligibility.runs('g', '%(task_type)s')}"
    " AND (CAST(%(priority)s AS text) IS NULL OR g.priority_queue = %(priority)s)"
)
_WHERE = {False: _LISTED, True: _OF_TYPE}
"""The nodes of a list, by whether they are those of one type."""


def _page(where: str) -> str:
    """A page. The largest metadata are left out until the others fit `room`."""
    return f"""
        WITH page AS MATERIALIZED (
            SELECT {_INFO}, g.metadata::text AS metadata_json
              FROM gpus g LEFT JOIN gpu_beats b USING (gpu_id)
             WHERE {where} ORDER BY g.gpu_id LIMIT %(limit)s OFFSET %(offset)s),
        sized AS (
            SELECT gpu_id, sum(octet_length(metadata_json)) OVER (ORDER BY octet_length(metadata_json), gpu_id)
                   AS together FROM page)
        SELECT {_OWN}, g.last_beat, g.current_tasks,
               CASE WHEN s.together <= %(room)s THEN g.metadata_json END AS metadata_json
          FROM page g JOIN sized s USING (gpu_id) ORDER BY g.gpu_id
        """


_PAGES = {of_type: _page(where) for of_type, where in _WHERE.items()}
_COUNTS = {of_type: f"SELECT count(*) FROM gpus g WHERE {where}" for of_type, where in _WHERE.items()}
FORGOTTEN = "forgotten_nodes"
"""The name of the report that keeps the last epoch of the nodes that were forgotten."""
LAST_EPOCH = f"(SELECT CAST(body ->> 'epoch' AS bigint) FROM monitor_reports WHERE name = '{FORGOTTEN}')"
"""SQL: no forgotten node had a later epoch; null if none is forgotten."""
_LOCK = "SELECT lineage FROM gpus WHERE gpu_id = %(gpu_id)s FOR UPDATE"
_STATES = "SELECT gpu_id, status FROM gpus WHERE gpu_id = ANY (CAST(%(gpu_ids)s AS text[])) AND gone_at IS NULL"
_STATUS = "SELECT gpu_id, status, epoch, registered_at, lineage FROM gpus WHERE gpu_id = %(gpu_id)s AND gone_at IS NULL"
_LOCK_REGISTERED = f"{_STATUS} FOR UPDATE"


async def page(
    connection: Connection,
    lineage: str | None,
    task_type: int | None = None,
    priority: str | None = None,
    *,
    limit: int,
    offset: int,
    room: int,
) -> tuple[list[ListedNode], int]:
    """A page of the registered nodes, or of one lineage's nodes, and their total.

    With a type, only those that run it; `priority` filters these on their own supportedTaskPriority. `metadata_json` is
    a JSON text; all of them are `room` bytes at most, and the largest are null.
    """
    which = {"lineage": lineage, "task_type": task_type, "priority": priority}
    of_type = task_type is not None
    rows = await connection.all(ListedNode, _PAGES[of_type], which | {"limit": limit, "offset": offset, "room": room})
    return rows, await connection.one(int, _COUNTS[of_type], which)


async def get(connection: Connection, gpu_id: str, lineage: str | None = None) -> RegisteredNode | None:
    """One registered node, or None, also if it is not of the given lineage."""
    return await connection.one_or_none(RegisteredNode, _GET, {"gpu_id": gpu_id, "lineage": lineage})


async def gone(connection: Connection, gpu_id: str) -> GoneNode | None:
    """One deregistered node, as long as it is remembered, or None."""
    return await connection.one_or_none(GoneNode, _GONE, {"gpu_id": gpu_id})


async def states(connection: Connection, gpu_ids: Collection[str]) -> dict[str, str]:
    """The statuses of these nodes; unregistered ones are missing."""
    rows = await connection.all(_State, _STATES, {"gpu_ids": list(gpu_ids)})
    return {row.gpu_id: row.status for row in rows}


async def status_of(connection: Connection, gpu_id: str) -> NodeStatus | None:
    """The status, registration and lineage that a beat needs; None if the node is not registered."""
    return await connection.one_or_none(NodeStatus, _STATUS, {"gpu_id": gpu_id})


async def registration(connection: Connection, gpu_id: str) -> str:
    """`X-Registration` of a registered node."""
    return registration_of(await connection.one(NodeStatus, _STATUS, {"gpu_id": gpu_id}))


def registration_of(row: NodeStatus) -> str:
    """`X-Registration`: opaque, and different for each registration and node.

    The epoch alone would come again after a restored backup.
    """
    registered_at = row.registered_at.astimezone(UTC).isoformat()
    return hashlib.sha256(f"{row.gpu_id} {row.epoch} {registered_at}".encode()).hexdigest()[:32]


async def hold(connection: Connection, gpu_id: str) -> str | None:
    """Lock a node until the transaction ends: what is read after that is true until then. Returns its lineage."""
    return await connection.one_or_none(str, _LOCK, {"gpu_id": gpu_id})


async def hold_own(connection: Connection, gpu_id: str, lineage: str | None) -> None:
    """Lock a registered node until the transaction ends, and check that it is of this lineage, or any if that is None.

    What was checked before may have changed: the node may be another key's by now. Raises GpuNotFound, GpuOfAnotherKey.
    """
    node = await connection.one_or_none(NodeStatus, _LOCK_REGISTERED, {"gpu_id": gpu_id})
    if node is None:
        raise GpuNotFound
    check_own(node, lineage)


def check_own(node: NodeStatus, lineage: str | None) -> None:
    """Check that a node is of this lineage, or any if that is None. Raises GpuOfAnotherKey."""
    if lineage not in (None, node.lineage):
        raise GpuOfAnotherKey

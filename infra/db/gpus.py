"""GPU nodes: registration, beats, and the guarded transitions of their state (INVARIANTS, "Legal transitions")."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

from sqlalchemy import TextClause, text

from infra.db import attempts, clock, eligibility, handover, locks, node_edges, node_records
from infra.db.connection import Connection, Row
from infra.db.notifications import NodeEvent, Notifications
from workflows.domain.attempt import Outcome
from workflows.domain.errors import GpuNotFound, GpuOfAnotherKey


@dataclass(frozen=True)
class Registration:
    """A node's own description (specification §2.4)."""

    gpu_id: str
    hostname: str
    vast_ins_id: str | None
    ip: str
    port: int
    task_types: list[int]
    priority_queue: str
    version: str
    max_concurrent_tasks: int
    metadata: dict[str, object]
    dispatch_secret: str | None
    lineage: str | None  # of the registering node's key, or None for an administrator, who holds no gpuId


_SELECT = f"""
    SELECT g.*, {clock.known("b.at")} AS last_beat,
           COALESCE(GREATEST(extract(epoch FROM clock_timestamp() - b.at), 0), 0)::float AS silent_s,
           {clock.age_s("g.status_since")} AS status_age_s,
           (SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL) AS current_tasks,
           (SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL
               AND a.gpu_epoch <> g.epoch) AS older_attempts
      FROM gpus g LEFT JOIN gpu_beats b USING (gpu_id)
     WHERE g.gone_at IS NULL
"""
_OF_LINEAGE = " AND (CAST(:lineage AS text) IS NULL OR g.lineage = :lineage)"
_GET = text(_SELECT + _OF_LINEAGE + " AND g.gpu_id = :gpu_id")
_LISTED = "g.gone_at IS NULL" + _OF_LINEAGE
_OF_TYPE = (
    " AND g.task_types @> ARRAY[CAST(:task_type AS bigint)]"
    " AND (CAST(:priority AS text) IS NULL OR g.priority_queue = :priority)"
)


def _page(where: str) -> TextClause:
    """A page. The largest metadata are left out until the others fit `:room`."""
    return text(
        f"""
        WITH page AS MATERIALIZED (
            SELECT g.gpu_id, g.hostname, g.vast_ins_id, g.ip, g.port, g.task_types, g.priority_queue, g.status,
                   g.failure_count, g.task_failure_count, g.version, g.max_concurrent_tasks,
                   {clock.known("b.at")} AS last_beat,
                   (SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL) AS current_tasks,
                   g.metadata::text AS metadata_json
              FROM gpus g LEFT JOIN gpu_beats b USING (gpu_id)
             WHERE {where} ORDER BY g.gpu_id LIMIT :limit OFFSET :offset),
        sized AS (
            SELECT gpu_id, sum(octet_length(metadata_json)) OVER (ORDER BY octet_length(metadata_json), gpu_id)
                   AS together FROM page)
        SELECT p.gpu_id, p.hostname, p.vast_ins_id, p.ip, p.port, p.task_types, p.priority_queue, p.status,
               p.failure_count, p.task_failure_count, p.version, p.max_concurrent_tasks, p.last_beat, p.current_tasks,
               CASE WHEN s.together <= :room THEN p.metadata_json END AS metadata_json
          FROM page p JOIN sized s USING (gpu_id) ORDER BY p.gpu_id
        """
    )


_PAGE, _COUNT = _page(_LISTED), text(f"SELECT count(*) FROM gpus g WHERE {_LISTED}")
_PAGE_OF_TYPE, _COUNT_OF_TYPE = (
    _page(_LISTED + _OF_TYPE),
    text(f"SELECT count(*) FROM gpus g WHERE {_LISTED + _OF_TYPE}"),
)
_LOCK = text("SELECT epoch, status, gone_at FROM gpus WHERE gpu_id = :gpu_id FOR UPDATE")
# A FAULTY node stays FAULTY whoever registers, also after it has gone: only recover ends that. Its failures in a row
# count on in the same way, and its rest lasts. A gpuId belongs to the lineage of the node's
# key that registered it first, until every key of that is revoked; what an administrator registered, to nobody else
# while it is there (INVARIANTS, 10).
_REGISTER = text(
    """
    INSERT INTO gpus AS g (gpu_id, epoch, status, hostname, vast_ins_id, ip, port, task_types, priority_queue, version,
                           max_concurrent_tasks, metadata, dispatch_secret, lineage)
    VALUES (:gpu_id, 1, 'ACTIVE', :hostname, :vast_ins_id, :ip, :port, :task_types, :priority_queue, :version,
            :max_concurrent_tasks, CAST(:metadata AS json), :dispatch_secret, :lineage)
        ON CONFLICT (gpu_id) DO UPDATE SET
           epoch = g.epoch + 1, hostname = excluded.hostname, vast_ins_id = excluded.vast_ins_id, ip = excluded.ip,
           port = excluded.port, task_types = excluded.task_types, priority_queue = excluded.priority_queue,
           version = excluded.version, max_concurrent_tasks = excluded.max_concurrent_tasks,
           metadata = excluded.metadata, dispatch_secret = excluded.dispatch_secret,
           lineage = COALESCE(excluded.lineage, g.lineage),
           status = CASE g.status WHEN 'FAULTY' THEN 'FAULTY' ELSE 'ACTIVE' END,
           failure_count = 0, hand_backs = 0, not_before = CASE WHEN g.rests > 0 THEN g.not_before END,
           registered_at = clock_timestamp(),
           status_since = CASE g.status WHEN 'FAULTY' THEN g.status_since ELSE clock_timestamp() END, gone_at = NULL
     WHERE excluded.lineage IS NULL OR g.lineage = excluded.lineage OR g.lineage IS NULL AND g.gone_at IS NOT NULL
        OR g.lineage IS NOT NULL
           AND NOT EXISTS (SELECT FROM api_keys k WHERE k.lineage = g.lineage AND k.revoked_at IS NULL)
    RETURNING epoch
    """
)
_LATER = f"at = GREATEST({clock.known('b.at')}, excluded.at)"
_BEAT = text(
    f"""
    INSERT INTO gpu_beats AS b (gpu_id, at)
    SELECT gpu_id, clock_timestamp() - make_interval(secs => age_s)
      FROM unnest(CAST(:gpu_ids AS text[]), CAST(:ages_s AS float[])) AS n(gpu_id, age_s)
     ORDER BY gpu_id
        ON CONFLICT (gpu_id) DO UPDATE SET {_LATER}
    """
)
_STATUS = text(
    "SELECT gpu_id, status, epoch, registered_at, lineage FROM gpus WHERE gpu_id = :gpu_id AND gone_at IS NULL"
)
_NOW_BEAT = text(
    "INSERT INTO gpu_beats AS b (gpu_id, at) VALUES (:gpu_id, clock_timestamp())"
    f" ON CONFLICT (gpu_id) DO UPDATE SET {_LATER}"
)
# Skipped rows have their turn next time: no lock is waited for while others are held.
_SET_BEATS_RIGHT = text(
    f"UPDATE gpu_beats SET at = {clock.NOW}"
    f" WHERE gpu_id IN (SELECT gpu_id FROM gpu_beats WHERE at > {clock.NOW} FOR UPDATE SKIP LOCKED)"
)
_SET_STATES_RIGHT = text(
    f"""
    UPDATE gpus SET status_since = LEAST(status_since, {clock.NOW}), judged_since = LEAST(judged_since, {clock.NOW})
     WHERE gpu_id IN (
           SELECT gpu_id FROM gpus WHERE status_since > {clock.NOW} OR judged_since > {clock.NOW}
              FOR UPDATE SKIP LOCKED)
    """
)
_STANDING_FREE = text(
    f"""
    SELECT g.gpu_id FROM gpus g
     WHERE {eligibility.works("g")} AND NOT {eligibility.rests("g")}
       AND EXISTS (SELECT FROM tasks t WHERE t.task_type = ANY (g.task_types)
                      AND {clock.long_ago("t.waiting_since", "interval '1 s'")})
       AND {eligibility.used("g")} < {eligibility.slots("g")}
    """
)
_ATTENDED = text(
    "UPDATE gpus SET attended_epoch = epoch, attended_status = status WHERE gpu_id = :gpu_id"
    " AND (attended_epoch, attended_status) IS DISTINCT FROM (epoch, status)"
)
_ADOPT = text(
    "UPDATE attempts SET gpu_epoch = :epoch WHERE task_id = :task_id AND attempt = :attempt AND closed_at IS NULL"
)


async def page(
    connection: Connection, lineage: str | None, *, limit: int, offset: int, room: int
) -> tuple[Sequence[Row], int]:
    """A page of the registered nodes, or of one lineage's nodes, and their total.

    `metadata_json` is a JSON text; all of them are `room` bytes at most, and the largest are null.
    """
    whose = {"lineage": lineage}
    rows = await connection.execute(_PAGE, whose | {"limit": limit, "offset": offset, "room": room})
    return rows.all(), (await connection.execute(_COUNT, whose)).scalar_one()


async def get(connection: Connection, gpu_id: str, lineage: str | None = None) -> Row | None:
    """One registered node, or None, also if it is not of the given lineage."""
    return (await connection.execute(_GET, {"gpu_id": gpu_id, "lineage": lineage})).one_or_none()


async def page_of_type(
    connection: Connection,
    task_type: int,
    priority: str | None,
    lineage: str | None,
    *,
    limit: int,
    offset: int,
    room: int,
) -> tuple[Sequence[Row], int]:
    """`page` of the nodes that run a type; `priority` filters on their own supportedTaskPriority."""
    which = {"task_type": task_type, "priority": priority, "lineage": lineage}
    rows = await connection.execute(_PAGE_OF_TYPE, which | {"limit": limit, "offset": offset, "room": room})
    return rows.all(), (await connection.execute(_COUNT_OF_TYPE, which)).scalar_one()


async def register(connection: Connection, node: Registration) -> Notifications:
    """(new), OFFLINE → ACTIVE with a new epoch; FAULTY stays. Slots above a smaller capacity are given back.

    Raises GpuOfAnotherKey.
    """
    await locks.release_of_registration(connection, node.gpu_id, node.task_types)
    values = node.__dict__ | {"metadata": json.dumps(node.metadata, ensure_ascii=False)}
    epoch = (await connection.execute(_REGISTER, values)).scalar_one_or_none()
    if epoch is None:
        raise GpuOfAnotherKey
    await connection.execute(_NOW_BEAT, {"gpu_id": node.gpu_id})
    notifications = Notifications(nodes=[NodeEvent(node.gpu_id, "register", epoch)])
    for row in await attempts.open_on(connection, node.gpu_id):
        if row.slot > node.max_concurrent_tasks or (row.ip, row.port) != (node.ip, node.port):
            settled = await attempts.settle(
                connection,
                row.task_id,
                row.attempt,
                Outcome.DEREGISTERED,
                actor=f"gpu:{node.gpu_id}",
                reason="节点以新的地址或容量重新注册",
            )
            if settled is not None:
                notifications.add(settled)
    notifications.grants += await handover.hand_over(connection, node.gpu_id)
    return notifications


async def status_of(connection: Connection, gpu_id: str) -> Row | None:
    """The status, registration and lineage that a beat needs; None if the node is not registered."""
    return (await connection.execute(_STATUS, {"gpu_id": gpu_id})).one_or_none()


async def registration(connection: Connection, gpu_id: str) -> str:
    """`X-Registration` of a registered node."""
    return registration_of((await connection.execute(_STATUS, {"gpu_id": gpu_id})).one())


def registration_of(row: Row) -> str:
    """`X-Registration` from a row of `status_of`: opaque, and different for each registration and node.

    The epoch alone would come again after a restored backup.
    """
    registered_at = row.registered_at.astimezone(UTC).isoformat()
    return hashlib.sha256(f"{row.gpu_id} {row.epoch} {registered_at}".encode()).hexdigest()[:32]


async def record_beats(connection: Connection, ages_s: dict[str, float]) -> None:
    """Write a batch of beats (gpu id → seconds ago). Only ages travel, so no other clock counts."""
    await connection.execute(_BEAT, {"gpu_ids": list(ages_s), "ages_s": list(ages_s.values())})


async def set_right(connection: Connection) -> None:
    """Replace times in the future by now, after the clock was ahead: beats, and since when a node's state lasts and is
    judged.

    `registered_at` stays: `X-Registration` is made of it.
    """
    await connection.execute(_SET_BEATS_RIGHT)
    await connection.execute(_SET_STATES_RIGHT)


async def attended(connection: Connection, gpu_id: str) -> None:
    """Record that the node's workflow has seen its state."""
    await connection.execute(_ATTENDED, {"gpu_id": gpu_id})


async def come_back(connection: Connection, gpu_id: str) -> Notifications:
    """OFFLINE → ACTIVE: a beat arrived."""
    await locks.release(connection, gpu_id)
    epoch = await node_edges.come_back(connection, gpu_id)
    return await _put_back_to_work(connection, gpu_id, epoch, "heartbeat")


async def recover(connection: Connection, gpu_id: str) -> Notifications:
    """FAULTY → ACTIVE with a fresh grace; ends the rest of a node that is not FAULTY. Raises GpuNotFound."""
    await _must_exist(connection, gpu_id)
    await locks.release(connection, gpu_id)
    epoch = await node_edges.recover(connection, gpu_id)
    if epoch is None and await node_records.clear(connection, gpu_id):
        return Notifications(grants=await handover.hand_over(connection, gpu_id))
    return await _put_back_to_work(connection, gpu_id, epoch, "recover")


async def fault(connection: Connection, gpu_id: str, reason: str) -> Notifications:
    """ACTIVE, OFFLINE → FAULTY; does nothing if it is FAULTY already. Raises GpuNotFound."""
    await _must_exist(connection, gpu_id)
    return await node_edges.fault(connection, gpu_id, reason)


async def deregister(connection: Connection, gpu_id: str) -> Notifications:
    """any → (gone). Raises GpuNotFound."""
    epoch = await node_edges.go(connection, gpu_id)
    if epoch is None:
        raise GpuNotFound
    return Notifications(nodes=[NodeEvent(gpu_id, "deregister", epoch)])


async def standing_free(connection: Connection) -> Sequence[str]:
    """Nodes with a free slot for which a fitting task has waited for a second: mostly those whose backoff has ended."""
    return list((await connection.execute(_STANDING_FREE)).scalars())


async def put_to_work(connection: Connection, gpu_id: str) -> Notifications:
    """Hand over the free slots of one node."""
    await hold(connection, gpu_id)
    return Notifications(grants=await handover.hand_over(connection, gpu_id))


async def adopt(connection: Connection, task_id: str, attempt: int, epoch: int) -> None:
    """Let an attempt of an earlier registration go on under the current one."""
    await connection.execute(_ADOPT, {"task_id": task_id, "attempt": attempt, "epoch": epoch})


async def hold(connection: Connection, gpu_id: str) -> None:
    """Lock a node until the transaction ends: what is read after that is true until then."""
    await connection.execute(_LOCK, {"gpu_id": gpu_id})


async def _put_back_to_work(connection: Connection, gpu_id: str, epoch: int | None, signal: str) -> Notifications:
    if epoch is None:
        return Notifications()
    await connection.execute(_NOW_BEAT, {"gpu_id": gpu_id})
    granted = await handover.hand_over(connection, gpu_id)
    return Notifications(grants=granted, nodes=[NodeEvent(gpu_id, signal, epoch)])


async def _must_exist(connection: Connection, gpu_id: str) -> None:
    if await status_of(connection, gpu_id) is None:
        raise GpuNotFound

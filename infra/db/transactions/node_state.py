"""Changes of a node's state, and what follows for its attempts and slots.

`lineage` is that of the only nodes that the caller may change, or None for any node (`Caller.node_lineage`). It is
checked under the lock of the node's row (`hold_own`), whatever a route has checked before.
"""

from __future__ import annotations

import json
from dataclasses import fields

from infra.db import locks
from infra.db.attempts import queries as attempt_queries
from infra.db.connection import Connection, columns, placeholders
from infra.db.locks import Release
from infra.db.nodes import drains
from infra.db.nodes import records as node_records
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.drains import Drain
from infra.db.nodes.liveness import NOW_BEAT
from infra.db.nodes.queries import LAST_EPOCH, Registration, hold, hold_own
from infra.db.slots import assign
from infra.db.transactions import settle_attempt
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import GpuNotFound, GpuOfAnotherKey
from workflows.domain.system_actor import SystemActor
from workflows.notifications import NodeEvent, Notifications

_REPLACED = End(Outcome.DEREGISTERED, "节点以新的地址或容量重新注册")
_OF_FORMER_KEY = End(Outcome.DEREGISTERED, "节点由另一密钥重新注册")
_DRAINED = End(Outcome.DRAINED, "节点停止接收新任务的期限已到")

# A FAULTY node stays FAULTY whoever registers, also after it has gone: only recover ends that, as only undrain ends a
# drain. Its failures in a row count on in the same way, and its rest lasts. A gpuId belongs to the lineage of the key
# that registered it first, until every key of that lineage is revoked; one that an administrator registered belongs to
# nobody else while it is there (INVARIANTS, 10).
_CHANGED = ", ".join(
    f"{one.name} = excluded.{one.name}" for one in fields(Registration) if one.name not in {"gpu_id", "lineage"}
)
_REGISTER = f"""
    INSERT INTO gpus AS g (epoch, status, {columns(Registration)})
    VALUES (COALESCE({LAST_EPOCH}, 0) + 1, 'ACTIVE', {placeholders(Registration)})
        ON CONFLICT (gpu_id) DO UPDATE SET
           epoch = g.epoch + 1, {_CHANGED}, lineage = COALESCE(excluded.lineage, g.lineage),
           status = CASE g.status WHEN 'FAULTY' THEN 'FAULTY' ELSE 'ACTIVE' END,
           failure_count = 0, hand_backs = 0, not_before = CASE WHEN g.rests > 0 THEN g.not_before END,
           registered_at = clock_timestamp(),
           status_since = CASE g.status WHEN 'FAULTY' THEN g.status_since ELSE clock_timestamp() END, gone_at = NULL
     WHERE excluded.lineage IS NULL OR g.lineage = excluded.lineage OR g.lineage IS NULL AND g.gone_at IS NOT NULL
        OR g.lineage IS NOT NULL
           AND NOT EXISTS (SELECT FROM api_keys k WHERE k.lineage = g.lineage AND k.revoked_at IS NULL)
    RETURNING epoch
    """


async def register(connection: Connection, node: Registration) -> Notifications:
    """(new), OFFLINE → ACTIVE with a new epoch; FAULTY stays. Slots above a smaller capacity are given back.

    A key that takes a gpuId over gets none of the attempts of the key before. Raises GpuOfAnotherKey.
    """
    release = await locks.releasing_by_registration(connection, node.gpu_id, node.task_types)
    is_taken_over = node.lineage not in (None, await hold(connection, node.gpu_id))
    values = node.__dict__ | {"metadata": json.dumps(node.metadata, ensure_ascii=False)}
    epoch = await connection.one_or_none(int, _REGISTER, values)
    if epoch is None:
        raise GpuOfAnotherKey
    await connection.execute(NOW_BEAT, {"gpu_id": node.gpu_id})
    await node_records.wait_for_stops(connection, node.gpu_id)
    notifications = Notifications(nodes=[NodeEvent(node.gpu_id, "register", epoch)])
    for row in await attempt_queries.open_on(connection, node.gpu_id):
        if is_taken_over or row.slot > node.max_concurrent_tasks or (row.ip, row.port) != (node.ip, node.port):
            end = _OF_FORMER_KEY if is_taken_over else _REPLACED
            settled = await settle_attempt.settle(connection, row.task_id, row.attempt, end, actor=f"gpu:{node.gpu_id}")
            notifications.add(settled.notifications)
    notifications.grants += await assign.assign_released(connection, release)
    return notifications


async def come_back(connection: Connection, gpu_id: str, lineage: str | None = None) -> Notifications:
    """OFFLINE → ACTIVE: a beat arrived. Raises GpuNotFound, GpuOfAnotherKey."""
    release = await locks.releasing(connection, gpu_id)
    await hold_own(connection, gpu_id, lineage)
    epoch = await node_transitions.come_back(connection, release)
    return await _back_to_work(connection, release, epoch, "heartbeat")


async def has_stopped(connection: Connection, gpu_id: str) -> Notifications:
    """Give a node work again that has stopped what it should."""
    release = await locks.releasing(connection, gpu_id)
    await hold(connection, gpu_id)
    await node_records.has_stopped(connection, release)
    return Notifications(grants=await assign.assign_released(connection, release))


async def recover(connection: Connection, gpu_id: str, lineage: str | None = None) -> Notifications:
    """FAULTY → ACTIVE with a fresh grace; ends the rest of a node that is not FAULTY.

    Raises GpuNotFound, GpuOfAnotherKey.
    """
    release = await locks.releasing(connection, gpu_id)
    await hold_own(connection, gpu_id, lineage)
    epoch = await node_transitions.recover(connection, release)
    if epoch is None and await node_records.clear(connection, release):
        return Notifications(grants=await assign.assign_released(connection, release))
    return await _back_to_work(connection, release, epoch, "recover")


async def fault(connection: Connection, gpu_id: str, reason: str, lineage: str | None = None) -> Notifications:
    """ACTIVE, OFFLINE → FAULTY; does nothing if it is FAULTY already. Raises GpuNotFound, GpuOfAnotherKey."""
    await hold_own(connection, gpu_id, lineage)
    return await node_transitions.fault(connection, gpu_id, reason)


async def drain(connection: Connection, gpu_id: str, how: Drain, lineage: str | None = None) -> Notifications:
    """Give a node no new attempt from the commit on; of a draining one replace reason and deadline, or bring the
    deadline forward (`drains.drain`).

    Raises GpuNotFound, GpuOfAnotherKey.
    """
    await hold_own(connection, gpu_id, lineage)
    epoch = await drains.drain(connection, gpu_id, how)
    return Notifications(nodes=[] if epoch is None else [NodeEvent(gpu_id, "drain", epoch)])


async def undrain(connection: Connection, gpu_id: str, lineage: str | None = None) -> Notifications:
    """End a drain, and assign the node's free slots; does nothing if it is not draining.

    Raises GpuNotFound, GpuOfAnotherKey.
    """
    release = await locks.releasing(connection, gpu_id)
    await hold_own(connection, gpu_id, lineage)
    epoch = await drains.undrain(connection, release)
    if epoch is None:
        return Notifications()
    granted = await assign.assign_released(connection, release)
    return Notifications(grants=granted, nodes=[NodeEvent(gpu_id, "undrain", epoch)])


async def hand_back(connection: Connection, gpu_id: str) -> Notifications:
    """Close what a node still runs past its drain's deadline; the tasks wait again, and no retry is used up."""
    await locks.releasing(connection, gpu_id)
    await hold(connection, gpu_id)
    if gpu_id not in await drains.overdue(connection):
        return Notifications()  # undrained meanwhile, or given more time
    return await settle_attempt.close_open(connection, gpu_id, _DRAINED, actor=SystemActor.DRAIN)


async def deregister(connection: Connection, gpu_id: str, lineage: str | None = None) -> Notifications:
    """any → (gone). Raises GpuNotFound, GpuOfAnotherKey."""
    await hold_own(connection, gpu_id, lineage)
    epoch = await node_transitions.go(connection, gpu_id)
    if epoch is None:
        raise GpuNotFound
    return Notifications(nodes=[NodeEvent(gpu_id, "deregister", epoch)])


async def assign_unused_slots(connection: Connection, gpu_id: str) -> Notifications:
    """Assign the free slots of one node."""
    await hold(connection, gpu_id)
    return Notifications(grants=await assign.assign(connection, gpu_id))


async def _back_to_work(connection: Connection, release: Release, epoch: int | None, signal: str) -> Notifications:
    if epoch is None:
        return Notifications()
    await connection.execute(NOW_BEAT, release.__dict__)
    await node_records.wait_for_stops(connection, release.gpu_id)
    granted = await assign.assign_released(connection, release)
    return Notifications(grants=granted, nodes=[NodeEvent(release.gpu_id, signal, epoch)])

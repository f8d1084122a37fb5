"""Judging the nodes of a task after its end, by `workflows.domain.fault_attribution`.

A task's end may throw a new light on the nodes where it failed. Each such node is judged in a transaction of its
own, since a task's row is locked after a node's; repeating that changes nothing.
"""

from __future__ import annotations

from functools import partial

from infra.db.attempts import comparison
from infra.db.attempts.failures import suspects
from infra.db.connection import Connection
from infra.db.nodes import records as node_records
from infra.db.nodes import transitions as node_transitions
from infra.db.session import Transaction
from workflows.domain import node_record
from workflows.domain.gpu import GpuStatus
from workflows.notifications import Notifications


async def review(transaction: Transaction, task_id: str) -> Notifications:
    """Judge the nodes on which a task failed before, once it has ended."""
    found, notifications = await transaction(partial(suspects, task_id=task_id)), Notifications()
    for gpu_id in found.poisoned:
        await transaction(partial(excuse, task_id=task_id, gpu_id=gpu_id))
    for gpu_id in found.outdone:
        notifications.add(await transaction(partial(fault_outlier, gpu_id=gpu_id)))
    return notifications


async def excuse(connection: Connection, task_id: str, gpu_id: str) -> None:
    """The task was poison: its failure on this node does not count. A node that is FAULTY stays as it is."""
    found = await node_records.lock(connection, gpu_id)
    if found is None or found.status == GpuStatus.FAULTY:
        return
    excused = node_record.excused(found.record, task_id)
    if excused != found.record:
        await node_records.write(connection, gpu_id, found.record, excused)


async def fault_outlier(connection: Connection, gpu_id: str) -> Notifications:
    """ACTIVE, OFFLINE → FAULTY where the node fails what others complete."""
    await node_records.lock(connection, gpu_id)
    compared = (await comparison.with_peers(connection, [gpu_id]))[gpu_id]
    if not compared.is_outlier:
        return Notifications()
    own = compared.own
    ended, failed = sum(one.ended for one in own.values()), sum(one.failed for one in own.values())
    reason = f"最近{ended}个任务中有{failed}个在该节点失败，而其他节点完成了这些任务"
    return await node_transitions.fault(connection, gpu_id, reason)

"""Judging the nodes of a task after its end, by `workflows.domain.fault_attribution`.

A task's end may throw a new light on the nodes where it failed. Each such node is judged in a transaction of its
own, since a task's row is locked after a node's; repeating that changes nothing.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from infra.db.attempts.failures import COMPARED_OUTCOMES, suspects
from infra.db.connection import Connection
from infra.db.nodes import records as node_records
from infra.db.nodes import transitions as node_transitions
from infra.db.queue.order import FLOW
from infra.db.session import Transaction
from infra.temporal.notifications import Notifications
from workflows.domain import node_record
from workflows.domain.fault_attribution import (
    PEERS,
    RECENT,
    RECENT_OF_PEER,
    Kind,
    Record,
    is_outlier,
)
from workflows.domain.gpu import GpuStatus

SEEN = 10
"""For each attempt that is compared at most this many are read, since passed deadlines may count against no node."""
# Only work counts that has been completed or still may be: other work says nothing about a node. A failure counts
# against the node itself only once another one has completed the task, and for a peer in any case.
_RECORDS = f"""
    WITH compared AS (
        SELECT gpu_id, judged_since, CAST(%(recent)s AS integer) AS last FROM gpus WHERE gpu_id = %(gpu_id)s
         UNION ALL
       (SELECT p.gpu_id, p.judged_since, CAST(%(recent_of_peer)s AS integer) FROM gpus p, gpus g
         WHERE g.gpu_id = %(gpu_id)s AND p.gpu_id <> g.gpu_id AND p.gone_at IS NULL AND p.status <> 'FAULTY'
           AND p.task_types && g.task_types LIMIT %(peers)s))
    SELECT c.gpu_id = %(gpu_id)s AS own, t.task_type, {FLOW.format(task="t")} AS flow,
           count(DISTINCT (c.gpu_id, t.task_id)) AS ended,
           count(DISTINCT (c.gpu_id, t.task_id)) FILTER (
                 WHERE a.outcome <> 'SUCCEEDED'
                   AND (c.gpu_id <> %(gpu_id)s OR t.status = 'COMPLETED' AND t.gpu_id <> %(gpu_id)s)) AS failed
      FROM compared c
     CROSS JOIN LATERAL (
           SELECT task_id, outcome FROM (
                  SELECT * FROM attempts
                   WHERE gpu_id = c.gpu_id AND closed_at >= c.judged_since AND outcome IN ({COMPARED_OUTCOMES})
                   ORDER BY closed_at DESC LIMIT {SEEN} * c.last) seen
            WHERE outcome <> 'TIMED_OUT' OR blamed
            ORDER BY closed_at DESC LIMIT c.last) a
     CROSS JOIN LATERAL (  -- else the planner reads all tasks
           SELECT * FROM tasks WHERE task_id = a.task_id AND status NOT IN ('FAILED', 'TIMEOUT') OFFSET 0) t
     GROUP BY 1, 2, 3
    """


class _Ended(NamedTuple):
    own: bool
    task_type: int
    flow: str
    ended: int
    failed: int


async def review(transaction: Transaction, task_id: str) -> Notifications:
    """What the end of a task says of the nodes on which it failed before."""
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
    bounds = {"peers": PEERS, "recent": RECENT, "recent_of_peer": RECENT_OF_PEER}
    rows = await connection.all(_Ended, _RECORDS, {"gpu_id": gpu_id} | bounds)
    records: dict[bool, dict[Kind, Record]] = {True: {}, False: {}}
    for row in rows:
        records[row.own][row.task_type, row.flow] = Record(row.ended, row.failed)
    own = records[True]
    if not is_outlier(own, records[False]):
        return Notifications()
    ended, failed = sum(one.ended for one in own.values()), sum(one.failed for one in own.values())
    reason = f"最近{ended}个任务中有{failed}个在该节点失败，而其他节点完成了这些任务"
    return await node_transitions.fault(connection, gpu_id, reason)

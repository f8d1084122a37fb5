"""Whose fault a failure is, the task's or the node's: the data of `workflows.domain.containment`, and what follows.

A task's end may throw a new light on the nodes where it failed. Each such node is looked at in a
transaction of its own, since a task's row is locked after a node's; repeating that changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from infra.db import node_edges
from infra.db.connection import Connection
from infra.db.wakeups import Wakeups
from workflows.domain.attempt import Outcome
from workflows.domain.containment import POISON_NODES, RECENT, Failure, Record, failed_alike_on, is_outlier
from workflows.domain.gpu import GpuStatus

PEERS = 20
"""A node is compared with so many others that share a task type with it."""

_FAILURES = text(
    "SELECT gpu_id, outcome, reason FROM attempts"
    " WHERE task_id = :task_id AND outcome IN ('FAILED', 'TIMED_OUT') ORDER BY attempt"
)
_WINNER = text("SELECT gpu_id FROM attempts WHERE task_id = :task_id AND outcome = 'SUCCEEDED'")
_LOCK_NODE = text("SELECT status FROM gpus WHERE gpu_id = :gpu_id FOR UPDATE")
_EXCUSE = text(
    "UPDATE attempts SET blamed = false WHERE task_id = :task_id AND gpu_id = :gpu_id AND blamed RETURNING attempt"
)
# Counted anew, not decreased: the attempt may have been forgotten already, by a success or a recovery.
_RECOUNT = text(
    """
    UPDATE gpus g
       SET task_failure_count = (
           SELECT count(*) FROM attempts a
            WHERE a.gpu_id = g.gpu_id AND a.blamed AND a.outcome IN ('SUCCEEDED', 'FAILED', 'TIMED_OUT')
              AND a.closed_at >= g.judged_since AND a.closed_at > COALESCE((
                  SELECT max(s.closed_at) FROM attempts s
                   WHERE s.gpu_id = g.gpu_id AND s.outcome = 'SUCCEEDED'), '-infinity'))
     WHERE g.gpu_id = :gpu_id
    """
)
_RECORDS = text(
    """
    WITH compared AS (
        SELECT gpu_id, judged_since FROM gpus WHERE gpu_id = :gpu_id
         UNION ALL
       (SELECT p.gpu_id, p.judged_since FROM gpus p, gpus g
         WHERE g.gpu_id = :gpu_id AND p.gpu_id <> g.gpu_id AND p.gone_at IS NULL AND p.status <> 'FAULTY'
           AND p.task_types && g.task_types LIMIT :peers))
    SELECT c.gpu_id, count(*) AS ended, count(DISTINCT last.task_id) FILTER (WHERE last.failed) AS failed
      FROM compared c
     CROSS JOIN LATERAL (
           SELECT a.task_id, a.outcome <> 'SUCCEEDED' AND EXISTS (
                  SELECT FROM attempts o
                   WHERE o.task_id = a.task_id AND o.outcome = 'SUCCEEDED' AND o.gpu_id <> a.gpu_id) AS failed
             FROM attempts a
            WHERE a.gpu_id = c.gpu_id AND a.closed_at >= c.judged_since
              AND a.outcome IN ('SUCCEEDED', 'FAILED', 'TIMED_OUT')
            ORDER BY a.closed_at DESC LIMIT :recent) last
     GROUP BY c.gpu_id
    """
)


@dataclass(frozen=True)
class Suspects:
    """The nodes on which a task has failed, now that it has ended: `poisoned` by it, or `outdone` by another node."""

    poisoned: list[str]
    outdone: list[str]


async def failures(connection: Connection, task_id: str) -> list[Failure]:
    """How and where a task has failed so far, in order."""
    rows = await connection.execute(_FAILURES, {"task_id": task_id})
    return [Failure(row.gpu_id, Outcome(row.outcome), row.reason) for row in rows]


async def suspects(connection: Connection, task_id: str) -> Suspects:
    """Whom the end of a task makes worth a look; nobody where it has not failed."""
    failed = await failures(connection, task_id)
    if not failed:
        return Suspects([], [])
    winner = (await connection.execute(_WINNER, {"task_id": task_id})).scalar_one_or_none()
    if winner is not None:
        return Suspects([], sorted({one.gpu_id for one in failed} - {winner}))
    alike = failed_alike_on(failed, failed[-1])
    return Suspects(sorted(alike) if len(alike) >= POISON_NODES else [], [])


async def excuse(connection: Connection, task_id: str, gpu_id: str) -> None:
    """The task was poison: its failure on this node does not count. A node that is FAULTY stays as it is."""
    status = (await connection.execute(_LOCK_NODE, {"gpu_id": gpu_id})).scalar_one_or_none()
    excused = await connection.execute(_EXCUSE, {"task_id": task_id, "gpu_id": gpu_id})
    if excused.rowcount and status is not None and status != GpuStatus.FAULTY:
        await connection.execute(_RECOUNT, {"gpu_id": gpu_id})


async def fault_outlier(connection: Connection, gpu_id: str) -> Wakeups:
    """ACTIVE, OFFLINE → FAULTY where the node fails what others complete."""
    await connection.execute(_LOCK_NODE, {"gpu_id": gpu_id})
    rows = (await connection.execute(_RECORDS, {"gpu_id": gpu_id, "peers": PEERS, "recent": RECENT})).all()
    records = {row.gpu_id: Record(row.ended, row.failed) for row in rows}
    own = records.pop(gpu_id, Record(0, 0))
    if not is_outlier(own, list(records.values())):
        return Wakeups()
    reason = f"最近{own.ended}次执行中有{own.failed}个任务失败，而其他节点完成了这些任务"
    return await node_edges.fault(connection, gpu_id, reason)

"""Whose failure it was: the data of `workflows.domain.fault_attribution`, and what follows from them.

A task's end may throw a new light on the nodes where it failed. Each such node is looked at in a
transaction of its own, since a task's row is locked after a node's; repeating that changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy import text

from infra.db import capacity, node_edges, node_records
from infra.db.connection import Connection
from infra.db.notifications import Notifications
from infra.db.queue import FLOW
from workflows.domain import node_record
from workflows.domain.attempt import COMPARED, USES_RETRY, Outcome
from workflows.domain.fault_attribution import (
    PEERS,
    POISON_NODES,
    RECENT,
    RECENT_OF_PEER,
    Failure,
    Kind,
    Record,
    failed_alike_on,
    has_room,
    is_outlier,
)
from workflows.domain.gpu import GpuStatus

_COMPARED = ", ".join(f"'{one}'" for one in Outcome if one in COMPARED)
_FAILED = ", ".join(f"'{one}'" for one in Outcome if one in USES_RETRY)
_FAILURES = text(
    f"SELECT gpu_id, outcome, reason FROM attempts WHERE task_id = :task_id AND outcome IN ({_FAILED}) ORDER BY attempt"
)
_ENDS = text(
    "SELECT gpu_id, outcome, reason FROM attempts"
    f" WHERE task_id = :task_id AND outcome IN ({_COMPARED}) ORDER BY attempt"
)
SEEN = 10
"""For each attempt that is compared at most this many are read: passed deadlines that count for nobody are many."""
# Only work that has been completed counts, or may still be: what nobody completes says nothing about a node. A failure
# counts against the node itself only once another one has completed the task, and for a peer in any case.
_RECORDS = text(
    f"""
    WITH compared AS (
        SELECT gpu_id, judged_since, CAST(:recent AS integer) AS last FROM gpus WHERE gpu_id = :gpu_id
         UNION ALL
       (SELECT p.gpu_id, p.judged_since, CAST(:recent_of_peer AS integer) FROM gpus p, gpus g
         WHERE g.gpu_id = :gpu_id AND p.gpu_id <> g.gpu_id AND p.gone_at IS NULL AND p.status <> 'FAULTY'
           AND p.task_types && g.task_types LIMIT :peers))
    SELECT c.gpu_id = :gpu_id AS own, t.task_type, {FLOW.format(task="t")} AS flow,
           count(DISTINCT (c.gpu_id, t.task_id)) AS ended,
           count(DISTINCT (c.gpu_id, t.task_id)) FILTER (
                 WHERE a.outcome <> 'SUCCEEDED'
                   AND (c.gpu_id <> :gpu_id OR t.status = 'COMPLETED' AND t.gpu_id <> :gpu_id)) AS failed
      FROM compared c
     CROSS JOIN LATERAL (
           SELECT task_id, outcome FROM (
                  SELECT * FROM attempts
                   WHERE gpu_id = c.gpu_id AND closed_at >= c.judged_since AND outcome IN ({_COMPARED})
                   ORDER BY closed_at DESC LIMIT {SEEN} * c.last) seen
            WHERE outcome <> 'TIMED_OUT' OR blamed
            ORDER BY closed_at DESC LIMIT c.last) a
     CROSS JOIN LATERAL (  -- else the planner reads all tasks
           SELECT * FROM tasks WHERE task_id = a.task_id AND status NOT IN ('FAILED', 'TIMEOUT') OFFSET 0) t
     GROUP BY 1, 2, 3
    """
)


T = TypeVar("T")


class Transaction(Protocol):
    """Runs work in one transaction: `Database.run`."""

    async def __call__(self, work: Callable[[Connection], Awaitable[T]], /) -> T: ...


@dataclass(frozen=True)
class Suspects:
    """The nodes to look at again, now that a task has ended: `poisoned` by it, or `outdone` by another node."""

    poisoned: list[str]
    outdone: list[str]


async def review(transaction: Transaction, task_id: str) -> Notifications:
    """What the end of a task says of the nodes on which it failed before."""
    found, notifications = await transaction(partial(suspects, task_id=task_id)), Notifications()
    for gpu_id in found.poisoned:
        await transaction(partial(excuse, task_id=task_id, gpu_id=gpu_id))
    for gpu_id in found.outdone:
        notifications.add(await transaction(partial(fault_outlier, gpu_id=gpu_id)))
    return notifications


async def failures(connection: Connection, task_id: str) -> list[Failure]:
    """How and where a task has failed so far, in order."""
    rows = await connection.execute(_FAILURES, {"task_id": task_id})
    return [Failure(row.gpu_id, Outcome(row.outcome), row.reason) for row in rows]


async def suspects(connection: Connection, task_id: str) -> Suspects:
    """Nodes to look at again after a task has ended; none where no attempt failed."""
    rows = (await connection.execute(_ENDS, {"task_id": task_id})).all()
    winner = next((row.gpu_id for row in rows if row.outcome == Outcome.SUCCEEDED), None)
    if winner is not None:
        return Suspects([], sorted({row.gpu_id for row in rows} - {winner}))
    failed = [Failure(row.gpu_id, Outcome(row.outcome), row.reason) for row in rows if row.outcome in USES_RETRY]
    alike = failed_alike_on(failed, failed[-1]) if failed else set()
    return Suspects(sorted(alike) if len(alike) >= POISON_NODES else [], [])


async def limit_has_room(connection: Connection, task_type: int, timeout_ms: int) -> bool:
    """Whether a task's own limit leaves the usual work of its type room."""
    usual = await capacity.usual_durations(connection, [task_type])
    return has_room(timeout_ms, usual.get(task_type))


async def excuse(connection: Connection, task_id: str, gpu_id: str) -> None:
    """The task was poison: its failure on this node does not count. A node that is FAULTY stays as it is."""
    found = await node_records.lock(connection, gpu_id)
    if found is None or found.status is GpuStatus.FAULTY:
        return
    excused = node_record.excused(found.record, task_id)
    if excused != found.record:
        await node_records.write(connection, gpu_id, found.record, excused)


async def fault_outlier(connection: Connection, gpu_id: str) -> Notifications:
    """ACTIVE, OFFLINE → FAULTY where the node fails what others complete."""
    await node_records.lock(connection, gpu_id)
    bounds = {"peers": PEERS, "recent": RECENT, "recent_of_peer": RECENT_OF_PEER}
    rows = (await connection.execute(_RECORDS, {"gpu_id": gpu_id} | bounds)).all()
    records: dict[bool, dict[Kind, Record]] = {True: {}, False: {}}
    for row in rows:
        records[row.own][row.task_type, row.flow] = Record(row.ended, row.failed)
    own = records[True]
    if not is_outlier(own, records[False]):
        return Notifications()
    ended, failed = sum(one.ended for one in own.values()), sum(one.failed for one in own.values())
    reason = f"最近{ended}个任务中有{failed}个在该节点失败，而其他节点完成了这些任务"
    return await node_edges.fault(connection, gpu_id, reason)

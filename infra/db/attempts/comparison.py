"""The last tasks of nodes and of their peers: the data of `fault_attribution.is_outlier`."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from infra.db.connection import Connection, listed
from infra.db.queue import order
from workflows.domain.attempt import COMPARED
from workflows.domain.fault_attribution import PEERS, RECENT, RECENT_OF_PEER, Comparison, Kind, Record

SEEN = 10
"""The most attempts that are read for each one compared, since passed deadlines may count against no node."""
# A task that has failed for good (`lost`) says nothing about a node. A failure counts against the judged node only
# once another node has completed the task; a peer's failures count in any case.
_RECORDS = f"""
    WITH judged AS (SELECT gpu_id, judged_since, task_types FROM gpus WHERE gpu_id = ANY (%(gpu_ids)s)),
    compared AS (
        SELECT gpu_id AS judged, gpu_id, judged_since, {RECENT} AS last FROM judged
         UNION ALL
        SELECT j.gpu_id, peer.* FROM judged j CROSS JOIN LATERAL (
               SELECT p.gpu_id, p.judged_since, {RECENT_OF_PEER} FROM gpus p
                WHERE p.gpu_id <> j.gpu_id AND p.gone_at IS NULL AND p.status <> 'FAULTY'
                  AND p.task_types && j.task_types LIMIT {PEERS}) peer)
    SELECT c.judged, c.gpu_id = c.judged AS own, t.task_type, {order.flow("t")} AS flow,
           count(DISTINCT (c.gpu_id, t.task_id)) FILTER (WHERE NOT t.is_lost) AS ended,
           count(DISTINCT (c.gpu_id, t.task_id)) FILTER (
                 WHERE NOT t.is_lost AND a.outcome <> 'SUCCEEDED'
                   AND (c.gpu_id <> c.judged OR t.status = 'COMPLETED' AND t.gpu_id <> c.judged)) AS failed,
           count(DISTINCT (c.gpu_id, t.task_id)) FILTER (WHERE t.is_lost) AS lost
      FROM compared c
     CROSS JOIN LATERAL (
           SELECT task_id, outcome FROM (
                  SELECT * FROM attempts
                   WHERE gpu_id = c.gpu_id AND closed_at >= c.judged_since AND outcome IN ({listed(COMPARED)})
                   ORDER BY closed_at DESC LIMIT {SEEN} * c.last) seen
            WHERE outcome <> 'TIMED_OUT' OR blamed
            ORDER BY closed_at DESC LIMIT c.last) a
     CROSS JOIN LATERAL (  -- else the planner reads all tasks
           SELECT *, status IN ('FAILED', 'TIMEOUT') AS is_lost FROM tasks WHERE task_id = a.task_id OFFSET 0) t
     GROUP BY 1, 2, 3, 4
    """


class _Row(NamedTuple):
    judged: str
    own: bool
    task_type: int
    flow: str
    ended: int
    failed: int
    lost: int


async def with_peers(connection: Connection, gpu_ids: Collection[str]) -> dict[str, Comparison]:
    """Each of these nodes compared with its peers."""
    found: dict[str, tuple[dict[Kind, Record], dict[Kind, Record]]] = {gpu_id: ({}, {}) for gpu_id in gpu_ids}
    for row in await connection.all(_Row, _RECORDS, {"gpu_ids": list(gpu_ids)}):
        own, peers = found[row.judged]
        (own if row.own else peers)[row.task_type, row.flow] = Record(row.ended, row.failed, row.lost)
    return {gpu_id: Comparison(own, peers) for gpu_id, (own, peers) in found.items()}

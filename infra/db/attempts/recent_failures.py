"""The failures of the last day by signature, type and node, and what the nodes did else: the data of verdicts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from infra.db.attempts.failures import COMPARED_OUTCOMES
from infra.db.connection import Connection
from workflows.domain.attempt import COMPARED, Outcome
from workflows.domain.fault_attribution import PEERS, RECENT_OF_PEER, Record

WITHIN_H = 24
MOST = 2_000
"""Failures that are grouped: the latest ones."""
MOST_GROUPS = 200
"""Groups by signature, type and node: the largest ones."""
MOST_LOST = 100
"""Lost tasks of a group that are named."""
LONGEST = 300
"""Characters of a reason that are compared."""

FAILED_OUTCOMES = ", ".join(f"'{one}'" for one in Outcome if one in COMPARED and one is not Outcome.SUCCEEDED)
_IDS = (
    "0x[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\m[a-z]+_(?=[a-z]*[0-9])[0-9a-f]{6,}\M|\m(?=[a-f]*[0-9])[0-9a-f]{8,}\M"
)
_NUMBERS = r"(?<![0-9])(?<!(code|errno|error|signal|status)[ :=]{1,3})[0-9]+([.][0-9]+)*"
_MASKED = (
    f"btrim(regexp_replace(regexp_replace(regexp_replace(left(COALESCE(f.reason, ''), {LONGEST}), '{_IDS}', '#', 'gi'),"
    f" '{_NUMBERS}', '#', 'gi'), '[[:space:]]+', ' ', 'g'))"
)
"""A reason without ids and numbers, but for the numbers of errors."""
_FAILED = f"""
    SELECT task_id, gpu_id, outcome, reason, blamed AS attributed, closed_at FROM attempts
     WHERE outcome IN ({FAILED_OUTCOMES}) AND closed_at >= clock_timestamp() - interval '{WITHIN_H} h'
     ORDER BY closed_at DESC LIMIT {MOST}
    """
_GROUPS = f"""
    WITH failed AS MATERIALIZED ({_FAILED}),
    signed AS MATERIALIZED (
        SELECT f.*, t.task_type, t.status, t.gpu_id AS ended_on,
               CASE WHEN f.outcome = 'TIMED_OUT' THEN '' ELSE {_MASKED} END
               AS signature
          FROM failed f
         CROSS JOIN LATERAL (  -- else the planner reads all tasks
               SELECT task_type, status, gpu_id FROM tasks t WHERE t.task_id = f.task_id OFFSET 0) t),
    alike AS (
        SELECT outcome, signature, task_id FROM signed GROUP BY 1, 2, 3 HAVING count(DISTINCT gpu_id) > 1)
    SELECT s.outcome, s.signature, s.task_type, s.gpu_id, count(*) AS failures,
           count(*) FILTER (WHERE s.attributed) AS attributed, count(DISTINCT s.task_id) AS tasks,
           count(DISTINCT s.task_id) FILTER (WHERE s.status = 'COMPLETED' AND s.ended_on <> s.gpu_id) AS done_elsewhere,
           count(DISTINCT s.task_id) FILTER (WHERE s.status IN ('FAILED', 'TIMEOUT')) AS lost,
           COALESCE((array_agg(DISTINCT s.task_id) FILTER (WHERE s.status IN ('FAILED', 'TIMEOUT')))[1:{MOST_LOST}],
                    '{{}}') AS lost_ids,
           count(DISTINCT a.task_id) AS alike, max(s.closed_at) AS last_at,
           (array_agg(left(s.reason, {LONGEST}) ORDER BY s.closed_at DESC))[1] AS reason,
           (array_agg(s.task_id ORDER BY s.closed_at DESC))[1] AS task_id,
           sum(count(*)) OVER ()::bigint AS of_all,
           sum(count(*)) OVER (PARTITION BY s.outcome, s.signature)::bigint AS of_signature,
           sum(count(*)) OVER (PARTITION BY s.gpu_id)::bigint AS of_node,
           (SELECT count(*) FROM (SELECT DISTINCT outcome, signature FROM signed) one) AS signatures
      FROM signed s LEFT JOIN alike a USING (outcome, signature, task_id)
     GROUP BY 1, 2, 3, 4 ORDER BY failures DESC, last_at DESC LIMIT {MOST_GROUPS}
    """
# The nodes in question and some of their peers, each by its last attempts.
_RECORDS = f"""
    WITH compared AS (
        SELECT gpu_id, judged_since FROM gpus WHERE gpu_id = ANY (CAST(%(gpu_ids)s AS text[]))
         UNION ALL
       (SELECT gpu_id, judged_since FROM gpus
         WHERE gpu_id <> ALL (CAST(%(gpu_ids)s AS text[])) AND gone_at IS NULL AND status <> 'FAULTY'
           AND task_types && CAST(%(task_types)s AS bigint[])
         LIMIT {PEERS}))
    SELECT c.gpu_id, t.task_type, count(*) AS ended, count(*) FILTER (WHERE a.outcome <> 'SUCCEEDED') AS failed
      FROM compared c
     CROSS JOIN LATERAL (
           SELECT task_id, outcome FROM attempts
            WHERE gpu_id = c.gpu_id AND closed_at >= c.judged_since AND outcome IN ({COMPARED_OUTCOMES})
            ORDER BY closed_at DESC LIMIT {RECENT_OF_PEER}) a
     CROSS JOIN LATERAL (SELECT task_type FROM tasks t WHERE t.task_id = a.task_id OFFSET 0) t
     GROUP BY 1, 2
    """


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one signature and type on one node.

    `attributed`: those that count against the node; `tasks`: distinct ones, of which `done_elsewhere` were completed by
    another node, `lost` ended without (`lost_ids`: some of them), and `alike` failed so on other nodes too. `reason`,
    `task_id`: of the last one. `of_all`, `of_signature`, `of_node`: all failures, those of its signature and those on
    its node, and `signatures`: how many there are, also in groups that are left out.
    """

    outcome: str
    signature: str
    task_type: int
    gpu_id: str
    failures: int
    attributed: int
    tasks: int
    done_elsewhere: int
    lost: int
    lost_ids: list[str]
    alike: int
    last_at: datetime
    reason: str | None
    task_id: str
    of_all: int
    of_signature: int
    of_node: int
    signatures: int


class _Record(NamedTuple):
    gpu_id: str
    task_type: int
    ended: int
    failed: int


async def groups(connection: Connection) -> list[FailureGroup]:
    """The failures of the last day in groups, the largest first."""
    return await connection.all(FailureGroup, _GROUPS)


async def records(
    connection: Connection, gpu_ids: Collection[str], task_types: Collection[int]
) -> dict[tuple[str, int], Record]:
    """How the last attempts of these nodes and of their peers ended, by node and type."""
    values = {"gpu_ids": list(gpu_ids), "task_types": list(task_types)}
    rows = await connection.all(_Record, _RECORDS, values)
    return {(row.gpu_id, row.task_type): Record(row.ended, row.failed) for row in rows}

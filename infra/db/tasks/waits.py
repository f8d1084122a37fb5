"""How long people wait, by type; and what has ended lately. Each read is bounded, however long the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection, listed
from workflows.domain.event import EventType
from workflows.domain.task import FROM_OUTSIDE

LAST = 100
"""Completed tasks of a type whose waits are looked at."""
MOST_OF_A_MINUTE = 20_000
"""Tasks that are counted of one minute at most."""
MOST_OF_OWNER = 2_000
"""Ended tasks of an owner that are looked at."""
MOST_NAMED = 10
"""Failed tasks of a minute that are named."""

# Without a condition on completed_at: otherwise the plan may walk the index of all ended tasks, whatever their type.
_WAITS = f"""
    SELECT types.task_type, waited.p50, waited.p90
      FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited_s) AS p50,
                  percentile_cont(0.9) WITHIN GROUP (ORDER BY waited_s) AS p90
             FROM (SELECT extract(epoch FROM t.started_at - t.created_at)::float AS waited_s FROM tasks t
                    WHERE t.task_type = types.task_type AND t.status = 'COMPLETED'
                    ORDER BY t.completed_at DESC LIMIT {LAST}) last) waited
    """
_ENDED = f"""
    SELECT minute.at, count(*) FILTER (WHERE one.status = 'COMPLETED') AS done,
           count(*) FILTER (WHERE one.status <> 'COMPLETED'
                              AND COALESCE(one.end_reason, '') NOT IN ({listed(FROM_OUTSIDE)})) AS failed
      FROM unnest(CAST(%(minutes)s AS timestamptz[])) AS minute(at)
     CROSS JOIN LATERAL (
           SELECT status, end_reason FROM tasks t
            WHERE t.completed_at >= minute.at AND t.completed_at < minute.at + interval '1 minute'
            LIMIT {MOST_OF_A_MINUTE}) one
     GROUP BY 1
    """

# By the event log: no index has an owner's tasks in the order in which they ended.
_ENDED_OF = f"""
    WITH last AS (
        SELECT xid, id, task_id, at, data ->> 'status' = 'COMPLETED' AS is_done,
               data ->> 'status' <> 'COMPLETED' AND data ->> 'endReason' NOT IN ({listed(FROM_OUTSIDE)}) AS has_failed
          FROM (SELECT xid, id, task_id, at, data FROM event_log
                 WHERE user_id = %(owner)s AND type = '{EventType.TASK_ENDED}'
                 ORDER BY xid DESC, id DESC LIMIT {MOST_OF_OWNER}) newest
         WHERE at >= %(since)s)
    SELECT date_trunc('minute', at, 'UTC') AS at, count(*) FILTER (WHERE is_done) AS done,
           count(*) FILTER (WHERE has_failed) AS failed,
           COALESCE((array_agg(task_id ORDER BY xid DESC, id DESC) FILTER (WHERE has_failed))[1:{MOST_NAMED}], '{{}}')
           AS failed_ids
      FROM last GROUP BY 1 ORDER BY 1 DESC
    """


@dataclass(frozen=True)
class Wait:
    """How long the last completed tasks of a type have waited, in s."""

    task_type: int
    p50: float | None
    p90: float | None


@dataclass(frozen=True)
class Minute:
    """The tasks that ended in a minute; `failed` excludes cancelled and expired ones."""

    at: datetime
    done: int
    failed: int


@dataclass(frozen=True)
class MinuteOfOwner(Minute):
    """An owner's tasks that ended in a minute; `failed_ids`: the latest `MOST_NAMED` failures, the last one first."""

    failed_ids: list[str]


async def by_type(connection: Connection, task_types: Sequence[int]) -> dict[int, Wait]:
    """The waits of these types."""
    rows = await connection.all(Wait, _WAITS, {"task_types": list(task_types)})
    return {row.task_type: row for row in rows}


async def ended(connection: Connection, minutes: Sequence[datetime]) -> list[Minute]:
    """The tasks that ended in each of these minutes; a minute without any is missing."""
    return await connection.all(Minute, _ENDED, {"minutes": list(minutes)})


async def ended_of(connection: Connection, owner: str, since: datetime) -> list[MinuteOfOwner]:
    """An owner's tasks that ended in each minute since then, the last one first; a minute without any is missing."""
    return await connection.all(MinuteOfOwner, _ENDED_OF, {"owner": owner, "since": since})

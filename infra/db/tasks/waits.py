"""How long people wait, by type; and how much ended in each minute. Each read is bounded, however long the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from infra.db.connection import Connection, listed
from workflows.domain.task import FROM_OUTSIDE

LAST = 200
"""Completed tasks of a type whose waits are looked at."""
MOST_OF_A_MINUTE = 20_000
"""Tasks that are counted of one minute at most."""

_WAITS = f"""
    SELECT types.task_type, waited.p50, waited.p90
      FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY waited_s) AS p50,
                  percentile_cont(0.9) WITHIN GROUP (ORDER BY waited_s) AS p90
             FROM (SELECT extract(epoch FROM t.started_at - t.created_at)::float AS waited_s FROM tasks t
                    WHERE t.task_type = types.task_type AND t.status = 'COMPLETED' AND t.completed_at IS NOT NULL
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


@dataclass(frozen=True)
class Wait:
    """How long the last completed tasks of a type have waited, in s."""

    task_type: int
    p50: float | None
    p90: float | None


class Minute(NamedTuple):
    """What ended in a minute; `failed` without what was cancelled or has expired."""

    at: datetime
    done: int
    failed: int


async def by_type(connection: Connection, task_types: Sequence[int]) -> dict[int, Wait]:
    """The waits of these types."""
    rows = await connection.all(Wait, _WAITS, {"task_types": list(task_types)})
    return {row.task_type: row for row in rows}


async def ended(connection: Connection, minutes: Sequence[datetime]) -> list[Minute]:
    """What ended in each of these minutes, without those in which nothing did."""
    return await connection.all(Minute, _ENDED, {"minutes": list(minutes)})

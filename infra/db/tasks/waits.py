"""How long people wait, by type; and how much ended in each minute. Each read is bounded, however long the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from infra.db import holding
from infra.db.connection import Connection, listed
from infra.db.slots import eligibility
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
_SLOTS = f"""
    SELECT types.task_type, sum(node.slots)::bigint AS slots, sum(least(node.used, node.slots))::bigint AS used
      FROM (SELECT g.task_types, {eligibility.used("g")} AS used,
                   CASE WHEN {eligibility.works("g")} THEN g.max_concurrent_tasks ELSE 0 END AS slots
              FROM gpus g WHERE g.gone_at IS NULL) node
     CROSS JOIN LATERAL unnest(node.task_types) AS types(task_type)
     GROUP BY 1
    """
_ALL_SLOTS = f"""
    SELECT COALESCE(sum(g.max_concurrent_tasks) FILTER (WHERE {eligibility.works("g")}), 0)::bigint AS slots,
           (SELECT count(*) FROM attempts a WHERE {holding.holds("a")}) AS used
      FROM gpus g WHERE g.gone_at IS NULL
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


class Slots(NamedTuple):
    """Slots of the nodes that take work, and those that are held."""

    slots: int
    used: int


class _OfType(NamedTuple):
    task_type: int
    slots: int
    used: int


class Minute(NamedTuple):
    """What ended in a minute; `failed` without what was cancelled or has expired."""

    at: datetime
    done: int
    failed: int


async def by_type(connection: Connection, task_types: Sequence[int]) -> dict[int, Wait]:
    """The waits of these types."""
    rows = await connection.all(Wait, _WAITS, {"task_types": list(task_types)})
    return {row.task_type: row for row in rows}


async def slots_by_type(connection: Connection) -> dict[int, Slots]:
    """The slots that each type can use. A slot of a node for several types counts for each."""
    return {row.task_type: Slots(row.slots, row.used) for row in await connection.all(_OfType, _SLOTS)}


async def all_slots(connection: Connection) -> Slots:
    """The slots of the fleet."""
    return await connection.one(Slots, _ALL_SLOTS)


async def ended(connection: Connection, minutes: Sequence[datetime]) -> list[Minute]:
    """What ended in each of these minutes, without those in which nothing did."""
    return await connection.all(Minute, _ENDED, {"minutes": list(minutes)})

"""The longest-waiting task of each type."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection

AMONG = 20
"""The waiting tasks of a type that are looked at, the first created ones: retries among them have waited for less."""
_OLDEST = f"""
    SELECT types.task_type, q.task_id, q.waiting_since,
           GREATEST(extract(epoch FROM clock_timestamp() - q.waiting_since), 0)::float8 AS waited_s
      FROM unnest(CAST(%(task_types)s AS bigint[])) AS types (task_type)
     CROSS JOIN LATERAL (
           SELECT task_id, waiting_since FROM (
                  SELECT task_id, waiting_since FROM tasks t WHERE t.task_type = types.task_type
                     AND t.status = 'QUEUED' AND t.waiting_since IS NOT NULL
                   ORDER BY t.display_id LIMIT {AMONG}) first
            ORDER BY waiting_since LIMIT 1) q
    """
AMONG_ALL = 1_000
"""The QUEUED tasks of all types that are looked at, the first created ones."""
_OF_OTHERS = f"""
    SELECT COALESCE(max(GREATEST(extract(epoch FROM clock_timestamp() - waiting_since), 0)), 0)::float8
      FROM (SELECT task_type, waiting_since FROM tasks WHERE status = 'QUEUED' ORDER BY display_id LIMIT {AMONG_ALL}) q
     WHERE task_type <> ALL (CAST(%(task_types)s AS bigint[]))
    """


@dataclass(frozen=True)
class Oldest:
    """The task of a type that has waited longest for a slot, and for how many seconds."""

    task_type: int
    task_id: str
    waiting_since: datetime
    waited_s: float


async def oldest(connection: Connection, task_types: Sequence[int]) -> dict[int, Oldest]:
    """The longest-waiting task of each type; types without one are missing."""
    rows = await connection.all(Oldest, _OLDEST, {"task_types": list(task_types)})
    return {row.task_type: row for row in rows}


async def oldest_of_others_s(connection: Connection, task_types: Collection[int]) -> float:
    """How many seconds a task of any other type has waited for a slot, among the first created ones of all types."""
    return await connection.one(float, _OF_OTHERS, {"task_types": list(task_types)})

"""How long the longest-waiting task of each type has waited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from infra.db.connection import Connection

AMONG = 20
"""The waiting tasks of a type that are looked at, the first created ones: retries among them have waited for less."""
_OLDEST = f"""
    SELECT types.task_type, max(extract(epoch FROM clock_timestamp() - q.waiting_since))::float8 AS waited_s
      FROM unnest(CAST(%(task_types)s AS bigint[])) AS types (task_type)
     CROSS JOIN LATERAL (
           SELECT waiting_since FROM tasks t WHERE t.task_type = types.task_type AND t.status = 'QUEUED'
              AND t.waiting_since IS NOT NULL
            ORDER BY t.display_id LIMIT {AMONG}) q
     GROUP BY types.task_type
    """


class _Row(NamedTuple):
    task_type: int
    waited_s: float


async def oldest(connection: Connection, task_types: Sequence[int]) -> dict[int, float]:
    """Seconds that it has waited, for those of the types that have a task waiting for a slot."""
    rows = await connection.all(_Row, _OLDEST, {"task_types": list(task_types)})
    return {row.task_type: max(row.waited_s, 0.0) for row in rows}

"""The counts of monitoring: kept by triggers as rows that add up (migration 0002), folded by the monitor."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

Counts = dict[str, dict[str, int]]  # counter -> key -> n, e.g. counts["task_status"]["QUEUED"]

_READ = text("SELECT counter, key, sum(n)::bigint AS n FROM counters GROUP BY counter, key HAVING sum(n) <> 0")
_FOLD = text(
    """
    WITH folded AS (DELETE FROM counters RETURNING counter, key, n)
    INSERT INTO counters SELECT counter, key, sum(n) FROM folded GROUP BY counter, key HAVING sum(n) <> 0
    """
)
_LOCK = text("SELECT pg_advisory_xact_lock(7102)")


async def read(connection: AsyncConnection) -> Counts:
    """All counts, of one moment."""
    counts: Counts = defaultdict(dict)
    for row in await connection.execute(_READ):
        counts[row.counter][row.key] = row.n
    return counts


async def fold(connection: AsyncConnection) -> None:
    """Add the rows up; a reader sees them before or after, never in between."""
    await connection.execute(_LOCK)
    await connection.execute(_FOLD)

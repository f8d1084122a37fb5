"""Reports that come after their attempt has closed, kept for inspection."""

from __future__ import annotations

from infra.db import locks
from infra.db.connection import Connection

_KEEP_LATE = """
    INSERT INTO late_reports (task_id, attempt, kind, body)
    SELECT %(task_id)s, CAST(%(attempt)s AS integer), CAST(%(kind)s AS text), %(body)s
     WHERE NOT EXISTS (SELECT FROM late_reports WHERE task_id = %(task_id)s AND kind = CAST(%(kind)s AS text)
                          AND attempt IS NOT DISTINCT FROM CAST(%(attempt)s AS integer))
       AND NOT EXISTS (SELECT FROM tasks WHERE task_id = %(task_id)s AND purged_at IS NOT NULL)
    """
LATE_BYTES = 64 * 1024


async def keep_late(connection: Connection, task_id: str, attempt: int | None, kind: str, body: str) -> None:
    """Keep a report that came too late, for inspection: the first of each attempt and kind, up to LATE_BYTES of it.

    `attempt` is None where it is not known which one was meant. Of a task whose results are forgotten, none is kept.
    """
    kept = body.encode()[:LATE_BYTES].decode(errors="ignore")
    await locks.late_reports(connection, task_id)
    await connection.execute(_KEEP_LATE, {"task_id": task_id, "attempt": attempt, "kind": kind, "body": kept})

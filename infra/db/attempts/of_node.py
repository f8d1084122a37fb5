"""The attempts of a node within a stretch of time, for the timeline of its slots."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection, listed
from workflows.domain.attempt import COMPARED

MOST = 2000
"""Attempts that are read at most: the latest ones."""

_COMPARED = listed(COMPARED)
# No attempt takes much longer than a day: so a look far back reads a day more, and not all that came since.
_CLOSED = (
    "a.gpu_id = %(gpu_id)s AND a.closed_at >= %(since)s AND a.closed_at < %(until)s + interval '25 hours'"
    " AND a.claimed_at < %(until)s"
)
# Each part reads its own index, the latest first.
_WITHIN = f"""
    WITH found AS (
        (SELECT a.* FROM attempts a WHERE a.gpu_id = %(gpu_id)s AND a.released_at IS NULL AND a.closed_at IS NULL
            AND a.claimed_at < %(until)s)
        UNION ALL
        (SELECT a.* FROM attempts a WHERE {_CLOSED} AND a.outcome IN ({_COMPARED})
          ORDER BY a.closed_at DESC LIMIT {MOST})
        UNION ALL
        (SELECT a.* FROM attempts a WHERE {_CLOSED} AND a.outcome NOT IN ({_COMPARED})
          ORDER BY a.closed_at DESC LIMIT {MOST}))
    SELECT f.task_id, f.attempt, f.slot, f.claimed_at, f.closed_at, f.outcome, f.reason, f.progress,
           t.task_type, t.app, t.end_reason
      FROM found f JOIN tasks t USING (task_id)
     ORDER BY f.claimed_at DESC, f.task_id, f.attempt LIMIT {MOST}
    """


@dataclass(frozen=True)
class NodeAttempt:
    """An attempt of a node, with what is to be known of its task."""

    task_id: str
    attempt: int
    slot: int
    claimed_at: datetime
    closed_at: datetime | None
    outcome: str | None
    reason: str | None
    progress: int | None
    task_type: int
    app: str
    end_reason: str | None


async def within(connection: Connection, gpu_id: str, since: datetime, until: datetime) -> list[NodeAttempt]:
    """The attempts that ran on a node between two times, the latest first, at most MOST."""
    return await connection.all(NodeAttempt, _WITHIN, {"gpu_id": gpu_id, "since": since, "until": until})

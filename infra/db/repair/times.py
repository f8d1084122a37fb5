"""The order of stored times, and none that is in the future."""

from __future__ import annotations

from infra.db.connection import listed
from infra.db.repair.check import Check
from workflows.domain.retry import BACKOFF_CAP_S
from workflows.domain.task import TERMINAL

LONGEST_LEASE = "1 h"

ORDERED_TIMES = Check(
    8,
    "createdAt, startedAt, completedAt are in order, the last one set if and only if the task has ended",
    "tasks",
    f"""
    SELECT task_id FROM tasks
     WHERE started_at < created_at OR completed_at < COALESCE(started_at, created_at)
        OR (completed_at IS NOT NULL) <> (status IN ({listed(TERMINAL)}))
    """,
)
_TIMES = {  # table, what names a row of it, and its times
    "tasks": ("task_id", "created_at, started_at, completed_at, updated_at, waiting_since, promoted_at"),
    "attempts": (
        "task_id || '-' || attempt",
        "claimed_at, accepted_at, progress_at, closed_at, collected_at, released_at",
    ),
    "task_events": ("task_id || ' #' || seq", "at"),
    "gpus": ("gpu_id", "registered_at, status_since, judged_since, drained_at, gone_at"),
    "gpu_beats": ("gpu_id", "at"),
    "alerts": ("dedupe_key", "raised_at, acknowledged_at"),
    "instances": ("instance_id", "started_at, last_beat, listening_since"),
}
PAST = Check(
    8,
    "no stored time is in the future: the clock was ahead, or was set back",
    "tasks",
    " UNION ALL ".join(
        f"SELECT '{table} ' || {key} FROM {table} WHERE GREATEST({times}) > clock_timestamp()"
        for table, (key, times) in _TIMES.items()
    )
    + f"""
     UNION ALL SELECT 'gpus ' || gpu_id || ' rests too long' FROM gpus
                WHERE not_before > clock_timestamp() + interval '{BACKOFF_CAP_S:g} s'
     UNION ALL SELECT name || ' lease lasts too long' FROM leader_lease
                WHERE expires_at > clock_timestamp() + interval '{LONGEST_LEASE}'
    """,
)

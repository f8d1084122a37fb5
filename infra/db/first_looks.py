"""When the workflows of waiting tasks take their first steps, if those are put off (ADR 0018).

It is a table apart from `tasks`, because only a claim may lock the row of a waiting task: a hand-over skips locked
rows.
"""

from __future__ import annotations

from sqlalchemy import text

from infra.db.connection import Connection

PACED_LOOKS_S = 60.0
"""Seconds by which the first step of a task is put off at most, when there is certainly no slot. Many tasks are granted
one before; their first step is then the dispatch, which saves a workflow task."""
LATEST_LOOK_S = 1800.0
"""The same for tasks with many ahead of them."""
RECORDED_S = 5.0
"""Shorter delays are not recorded: the reconciler does not look that early (`activities.mending.AGE_S`)."""
FORGOTTEN_AT_ONCE = 5000

_RECORD = text(
    """
    INSERT INTO first_looks (task_id, due_at)
    SELECT task_id, clock_timestamp() - make_interval(secs => age_s)
      FROM unnest(CAST(:task_ids AS text[]), CAST(:ages_s AS float[])) AS n(task_id, age_s)
     ORDER BY task_id
        ON CONFLICT (task_id) DO UPDATE SET due_at = excluded.due_at
    """
)
POSSIBLE = f"(due_at <= clock_timestamp() + interval '{LATEST_LOOK_S + RECORDED_S:g} s')"
"""Nothing is put off for longer: a later time was written while the clock was ahead."""
_FORGET = text(
    f"""
    DELETE FROM first_looks WHERE task_id IN (
        SELECT task_id FROM first_looks
         WHERE due_at < clock_timestamp() - make_interval(secs => :age) OR NOT {POSSIBLE} LIMIT :limit)
    """
)


async def record(connection: Connection, ages_s: dict[str, float]) -> None:
    """Record the age of each task's first step in seconds (negative: in the future); its workflow has been started."""
    await connection.execute(_RECORD, {"task_ids": list(ages_s), "ages_s": list(ages_s.values())})


async def forget(connection: Connection, age_s: float) -> None:
    """Forget those that have been due for `age_s`, a limited number at a time."""
    await connection.execute(_FORGET, {"age": age_s, "limit": FORGOTTEN_AT_ONCE})

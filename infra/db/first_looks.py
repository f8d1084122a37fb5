"""When the workflows of waiting tasks take their first steps, where that is put off (ADR 0018).

A table apart from `tasks`: a row that waits must be locked by nobody but who claims a slot for it, since a hand-over
skips what is locked.
"""

from __future__ import annotations

from sqlalchemy import text

from infra.db.connection import Connection

PACED_LOOKS_S = 60.0
"""A new task for which there is certainly no slot may look for one itself so much later. Many are granted one before,
and then their first step is already the dispatch: one workflow task and one look less."""
LATEST_LOOK_S = 1800.0
"""The same for those that have many ahead of them."""
RECORDED_S = 5.0
"""What is put off for less than that the reconciler does not ask for (`activities.mending.AGE_S`)."""
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
"""Nothing is put off for longer: the clock was ahead when such a time was written."""
_FORGET = text(
    f"""
    DELETE FROM first_looks WHERE task_id IN (
        SELECT task_id FROM first_looks
         WHERE due_at < clock_timestamp() - make_interval(secs => :age) OR NOT {POSSIBLE} LIMIT :limit)
    """
)


async def record(connection: Connection, ages_s: dict[str, float]) -> None:
    """The workflow of each task has been started, and looks for a slot so many seconds ago (negative: to come)."""
    await connection.execute(_RECORD, {"task_ids": list(ages_s), "ages_s": list(ages_s.values())})


async def forget(connection: Connection, age_s: float) -> None:
    """Those that have been due for so long; not all of very many."""
    await connection.execute(_FORGET, {"age": age_s, "limit": FORGOTTEN_AT_ONCE})

"""Writing beats, and correcting times that lie in the future."""

from __future__ import annotations

from infra.db import clock
from infra.db.connection import Connection

LATER = f"at = GREATEST({clock.known('b.at')}, excluded.at)"
_BEAT = f"""
    INSERT INTO gpu_beats AS b (gpu_id, at)
    SELECT gpu_id, clock_timestamp() - make_interval(secs => age_s)
      FROM unnest(CAST(%(gpu_ids)s AS text[]), CAST(%(ages_s)s AS float[])) AS n(gpu_id, age_s)
     ORDER BY gpu_id
        ON CONFLICT (gpu_id) DO UPDATE SET {LATER}
    """
NOW_BEAT = (
    "INSERT INTO gpu_beats AS b (gpu_id, at) VALUES (%(gpu_id)s, clock_timestamp())"
    f" ON CONFLICT (gpu_id) DO UPDATE SET {LATER}"
)
# Skipped rows have their turn next time: no lock is waited for while others are held.
_SET_BEATS_RIGHT = (
    f"UPDATE gpu_beats SET at = {clock.NOW}"
    f" WHERE gpu_id IN (SELECT gpu_id FROM gpu_beats WHERE at > {clock.NOW} FOR UPDATE SKIP LOCKED)"
)
_SET_STATES_RIGHT = f"""
    UPDATE gpus SET status_since = LEAST(status_since, {clock.NOW}), judged_since = LEAST(judged_since, {clock.NOW}),
           drained_at = CASE WHEN drained_at IS NOT NULL THEN LEAST(drained_at, {clock.NOW}) END
     WHERE gpu_id IN (
           SELECT gpu_id FROM gpus WHERE GREATEST(status_since, judged_since, drained_at) > {clock.NOW}
              FOR UPDATE SKIP LOCKED)
    """


async def record_beats(connection: Connection, ages_s: dict[str, float]) -> None:
    """Write a batch of beats (gpu id → seconds ago). Only ages travel, so no other clock counts."""
    await connection.execute(_BEAT, {"gpu_ids": list(ages_s), "ages_s": list(ages_s.values())})


async def set_right(connection: Connection) -> None:
    """Replace times in the future by now, after the clock was ahead: beats, and since when a node's state or drain
    lasts and it is judged.

    `registered_at` stays: `X-Registration` is made of it.
    """
    await connection.execute(_SET_BEATS_RIGHT)
    await connection.execute(_SET_STATES_RIGHT)

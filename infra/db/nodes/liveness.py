"""Beats of nodes: which nodes are silent, and whether the cause is more likely ours.

Silence counts from the last beat, but not from before an API process listened. An API process that was down, paused or
cut off from the database starts to listen again, as it does after a clock that was ahead.

If a large part of the fleet falls silent at once the cause is more likely ours, a network or an outage: the nodes are
held for a while (the fleet guard). A beat in the future counts as one of now: the leader corrects it
(`set_right`), and the node has a grace from then on.

Fake nodes cannot distort the guard, and maintenance does not: only nodes that have beaten for a grace and do not drain
count. Besides the nodes of its own key, a node's fleet has one node for each other key, which is silent if most of that
key's nodes are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from infra.db import clock
from infra.db.connection import Connection

GUARD_SHARE = 0.3
GUARD_AT_LEAST = 3
"""The fleet guard: more than this share of the fleet, and at least this many nodes, silent within one grace."""
QUIET_GRACES = 0.75
"""Graces of silence after which a node counts as silent with the others. Where a cut silences several nodes, the
first to lapse is held because the others are about to."""
HELD_GRACES = 3.0
"""Graces of silence that end the hold of a single node."""
_HEARD = f"LEAST(b.at, {clock.NOW})"
_SILENT = f"""
    WITH ears AS (
        SELECT min(listening_since) AS since FROM instances
         WHERE kind = 'api' AND {clock.recent("last_beat", clock.seconds("deaf"))}
           AND listening_since <= {clock.NOW}),
    fleet AS (
        SELECT g.gpu_id, g.epoch, g.status, COALESCE(g.lineage, '') AS lineage,
               extract(epoch FROM {clock.NOW} - GREATEST({_HEARD}, ears.since))::float AS silent_s,
               {_HEARD} - make_interval(secs => %(grace)s)
               >= GREATEST(CASE g.status WHEN 'ACTIVE' THEN g.status_since ELSE '-infinity' END,
                           {clock.known("g.registered_at")})
               AND g.drained_at IS NULL AS has_beaten
          FROM gpus g JOIN gpu_beats b USING (gpu_id) CROSS JOIN ears
         WHERE g.gone_at IS NULL AND ears.since IS NOT NULL
           AND (g.status = 'ACTIVE'
                OR g.status = 'OFFLINE' AND {clock.recent("g.status_since", clock.seconds("grace"))})),
    keyed AS (
        SELECT fleet.*, count(*) FILTER (WHERE has_beaten) OVER own AS nodes,
               count(*) FILTER (WHERE has_beaten AND (status = 'OFFLINE' OR silent_s > %(quiet)s * %(grace)s)) OVER own
               AS quiet
          FROM fleet WINDOW own AS (PARTITION BY lineage)),
    keys AS (
        SELECT count(DISTINCT lineage) AS nodes, count(DISTINCT lineage) FILTER (WHERE 2 * quiet > nodes) AS quiet
          FROM keyed WHERE nodes > 0),
    guarded AS (  -- the node's own key is no other one
        SELECT own.gpu_id, own.epoch, own.silent_s,
               own.nodes + keys.nodes - (own.nodes > 0)::int AS nodes,
               own.quiet + keys.quiet - (2 * own.quiet > own.nodes)::int AS quiet
          FROM keyed own CROSS JOIN keys
         WHERE own.status = 'ACTIVE' AND own.silent_s > %(grace)s)
    SELECT gpu_id, epoch, (SELECT count(*) FROM fleet) AS fleet,
           quiet >= %(at_least)s AND quiet > %(share)s * nodes AND silent_s <= %(held_graces)s * %(grace)s AS held
      FROM guarded
    """
_LATER = f"at = GREATEST({clock.known('b.at')}, excluded.at)"
_BEAT = f"""
    INSERT INTO gpu_beats AS b (gpu_id, at)
    SELECT gpu_id, clock_timestamp() - make_interval(secs => age_s)
      FROM unnest(CAST(%(gpu_ids)s AS text[]), CAST(%(ages_s)s AS float[])) AS n(gpu_id, age_s)
     ORDER BY gpu_id
        ON CONFLICT (gpu_id) DO UPDATE SET {_LATER}
    """
NOW_BEAT = (
    "INSERT INTO gpu_beats AS b (gpu_id, at) VALUES (%(gpu_id)s, clock_timestamp())"
    f" ON CONFLICT (gpu_id) DO UPDATE SET {_LATER}"
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


@dataclass(frozen=True)
class Silence:
    """The ACTIVE nodes past their grace: `lapsed` ones as (gpu id, epoch), and those that are held."""

    lapsed: list[tuple[str, int]]
    held: list[str]
    fleet: int


class _Silent(NamedTuple):
    gpu_id: str
    epoch: int
    fleet: int
    held: bool


def deaf_after_s(grace_s: float) -> float:
    """Seconds without a beat of its own after which an API process has probably missed the nodes' beats too."""
    return max(grace_s / 2, 1.0)


async def record_beats(connection: Connection, ages_s: dict[str, float]) -> None:
    """Write a batch of beats (gpu id → seconds ago). Only ages travel, so no other clock counts."""
    await connection.execute(_BEAT, {"gpu_ids": list(ages_s), "ages_s": list(ages_s.values())})


async def set_right(connection: Connection) -> None:
    """Replace times in the future by now, after the clock was ahead: of beats, and of the beginning of a node's state,
    of its drain, and of the period over which it is judged.

    `registered_at` stays: `X-Registration` is made of it.
    """
    await connection.execute(_SET_BEATS_RIGHT)
    await connection.execute(_SET_STATES_RIGHT)


async def find(connection: Connection, grace_s: float) -> Silence:
    """The silent nodes by the database's clock; none if no API process listens."""
    values = {
        "grace": grace_s,
        "deaf": deaf_after_s(grace_s),
        "quiet": QUIET_GRACES,
        "share": GUARD_SHARE,
        "at_least": GUARD_AT_LEAST,
        "held_graces": HELD_GRACES,
    }
    rows = await connection.all(_Silent, _SILENT, values)
    return Silence(
        lapsed=[(row.gpu_id, row.epoch) for row in rows if not row.held],
        held=[row.gpu_id for row in rows if row.held],
        fleet=rows[0].fleet if rows else 0,
    )

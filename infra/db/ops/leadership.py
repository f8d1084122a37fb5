"""The leader's lease: one instance holds it, and its epoch grows with each change of leader."""

from __future__ import annotations

from infra.db import clock
from infra.db.connection import Connection

LIVES_S = 30.0
"""A holder that has beaten within this time is alive, however long its lease: a turn rarely takes two seconds."""
# A lease that ends later than one taken now was taken with a longer setting, or while the clock was ahead. In the
# latter case the holder's last beat is in the future, too.
_UNEXPIRED = f"""
    (l.expires_at > {clock.NOW}
     AND (l.expires_at <= {clock.NOW} + {clock.seconds("lease")}
          OR EXISTS (SELECT FROM instances i
                      WHERE i.instance_id = l.holder AND {clock.recent("i.last_beat", f"interval '{LIVES_S:g} s'")})))
"""
_LEAD = f"""
    INSERT INTO leader_lease AS l (name, holder, epoch, expires_at)
    VALUES ('leader', %(instance_id)s, 1, clock_timestamp() + make_interval(secs => %(lease)s))
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at,
           epoch = CASE WHEN l.holder = excluded.holder AND {_UNEXPIRED} THEN l.epoch ELSE l.epoch + 1 END
     WHERE l.holder = excluded.holder OR NOT {_UNEXPIRED}
    RETURNING epoch
    """
_GIVE_UP = "UPDATE leader_lease SET expires_at = clock_timestamp() WHERE name = 'leader' AND holder = %(instance_id)s"


async def lead(connection: Connection, instance_id: str, lease_s: float) -> int | None:
    """Take or keep the leader lease. Returns its epoch, or None if another instance holds it."""
    return await connection.one_or_none(int, _LEAD, {"instance_id": instance_id, "lease": lease_s})


async def give_up(connection: Connection, instance_id: str) -> None:
    """Free the lease at once, if the instance holds it."""
    await connection.execute(_GIVE_UP, {"instance_id": instance_id})

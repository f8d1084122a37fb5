"""The cluster: instances and their beats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db import clock
from infra.db.connection import Connection
from infra.db.ops import leadership, monitor_reports


@dataclass(frozen=True)
class Load:
    """The load of the instance's machine, in percent."""

    cpu_usage: float
    memory_usage: float
    disk_usage: float


_JOIN = """
    WITH next AS (SELECT nextval(pg_get_serial_sequence('instances', 'number')) AS number)
    INSERT INTO instances (instance_id, number, kind, hostname, pid, version) OVERRIDING SYSTEM VALUE
    SELECT 'instance-' || lpad(number::text, GREATEST(3, length(number::text)), '0'), number,
           %(kind)s, %(hostname)s, %(pid)s, %(version)s FROM next
    RETURNING instance_id
    """
_BEAT = f"""
    UPDATE instances
       SET listening_since = CASE WHEN {clock.long_ago("GREATEST(last_beat, listening_since)", clock.seconds("deaf"))}
                                  THEN clock_timestamp() ELSE listening_since END,
           last_beat = clock_timestamp(), cpu_usage = %(cpu_usage)s, memory_usage = %(memory_usage)s,
           disk_usage = %(disk_usage)s
     WHERE instance_id = %(instance_id)s
    """
_LEAVE = "DELETE FROM instances WHERE instance_id = %(instance_id)s"
# An instance whose last beat is in the future has a timeout from now on, and starts to listen again.
_SET_RIGHT = (
    "UPDATE instances SET last_beat = clock_timestamp(), listening_since = clock_timestamp()"
    " WHERE last_beat > clock_timestamp()"
)
_PURGE = "DELETE FROM instances WHERE last_beat < clock_timestamp() - make_interval(secs => %(age)s)"
_PURGE_DISKS = f"DELETE FROM monitor_reports WHERE name LIKE 'disk:%%' AND {clock.long_ago('at', clock.seconds('age'))}"
_LIST = f"""
    SELECT i.instance_id, i.kind, i.version, i.started_at, i.last_beat, i.cpu_usage, i.memory_usage, i.disk_usage,
           {clock.recent("i.last_beat", clock.seconds("timeout"))} AS alive,
           l.holder IS NOT NULL AS leads,
           EXISTS (SELECT FROM monitor_reports r
                    WHERE r.name = 'disk:' || i.hostname AND {clock.recent("r.at", clock.seconds("timeout"))})
               AS disk_nearly_full
      FROM instances i
      LEFT JOIN leader_lease l ON l.holder = i.instance_id AND l.expires_at > clock_timestamp()
     ORDER BY i.number
    """


@dataclass(frozen=True)
class ListedInstance:
    """An instance as others see it."""

    instance_id: str
    kind: str
    """api or worker."""
    version: str
    started_at: datetime
    last_beat: datetime
    cpu_usage: float
    memory_usage: float
    disk_usage: float
    alive: bool
    leads: bool
    disk_nearly_full: bool


async def join(connection: Connection, *, kind: str, hostname: str, pid: int, version: str) -> str:
    """A new instance; returns its id, `instance-001` and so on."""
    values = {"kind": kind, "hostname": hostname, "pid": pid, "version": version}
    return await connection.one(str, _JOIN, values)


async def beat(connection: Connection, instance_id: str, load: Load, deaf_s: float) -> bool:
    """Record that the instance is alive, and its load. Returns False if it was forgotten and must join again.

    After more than `deaf_s` without a beat of its own it starts to listen again: it may have missed the nodes' beats
    too. It also does so if its own last beat lies in the future, since nothing is known of theirs then.
    """
    values = load.__dict__ | {"instance_id": instance_id, "deaf": deaf_s}
    return await connection.execute(_BEAT, values) == 1


async def leave(connection: Connection, instance_id: str) -> None:
    """End an instance in order: its row goes, and the lease is free at once."""
    await leadership.give_up(connection, instance_id)
    await connection.execute(_LEAVE, {"instance_id": instance_id})


async def purge(connection: Connection, age_s: float) -> None:
    """Forget instances that have been silent for `age_s`, and what their hosts reported of their disks."""
    await connection.execute(_SET_RIGHT)
    await connection.execute(_PURGE, {"age": age_s})
    await connection.execute(_PURGE_DISKS, {"age": age_s})


async def report_disk(connection: Connection, hostname: str) -> None:
    """Record that the disk of this host is nearly full. Repeated while it is, since it counts for one instance
    timeout."""
    await monitor_reports.keep(connection, f"disk:{hostname}", {})


async def list_all(connection: Connection, timeout_s: float) -> list[ListedInstance]:
    """Every instance, with `alive` (beat within `timeout_s`), `leads`, and its host's `disk_nearly_full`."""
    return await connection.all(ListedInstance, _LIST, {"timeout": timeout_s})

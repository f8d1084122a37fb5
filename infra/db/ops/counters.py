"""The counts of monitoring: triggers append differences (migrations 0003 to 0005, 0036), the leader adds them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from infra.db import clock
from infra.db.connection import Connection, listed
from infra.db.ops import kinds, monitor_reports
from infra.db.ops.kinds import SUM, Kind, by_status, by_type
from workflows.domain.task import TERMINAL, UNFINISHED

# One statement, one snapshot: a reader sees a difference either still apart or added, never both or neither.
_READ = """
    SELECT counter, key, sum(n)::bigint AS n
      FROM (SELECT counter, key, n FROM counters WHERE counter = ANY (%(counters)s)
             UNION ALL SELECT counter, key, n FROM counter_deltas WHERE counter = ANY (%(counters)s)) both_tables
     GROUP BY counter, key HAVING sum(n) <> 0
"""
_QUEUED_OF = f"""
    SELECT counter, sum(n)::bigint AS n
      FROM (SELECT substr(counter, length('{SUM}') + 1) AS counter, n FROM counters
             WHERE counter = ANY (%(sums)s) AND key = 'QUEUED'
             UNION ALL
            SELECT counter, n FROM counter_deltas WHERE counter = ANY (%(counters)s) AND key LIKE '%% QUEUED') queued
     GROUP BY counter
"""
_TERMINAL = listed(TERMINAL)


def _has_ended(row: str) -> str:
    """Whether a row counts tasks that have ended."""
    return f"split_part({row}.key, ' ', 2) IN ({_TERMINAL})"


# As many tasks of a group may be forgotten meanwhile as end: the sum of a key says nothing of its group's end.
_MAY_END_GROUP = f"bool_or(n > 0) AND counter LIKE 'user_group:%%' AND {_has_ended('taken')}"
_FOLD = f"""
    WITH taken AS (DELETE FROM counter_deltas RETURNING counter, key, n),
    summed AS (
        SELECT counter, key, sum(n)::bigint AS n, {_MAY_END_GROUP} AS may_end_group
          FROM taken GROUP BY counter, key HAVING sum(n) <> 0 OR {_MAY_END_GROUP}),
    added AS (
        INSERT INTO counters AS c (counter, key, n)
        SELECT counter, key, n FROM summed ORDER BY counter, key
            ON CONFLICT (counter, key) DO UPDATE SET n = c.n + excluded.n
        RETURNING counter, key, n)
    SELECT counter, key, added.n = 0 AS is_zero, may_end_group FROM added JOIN summed USING (counter, key)
    """
# Of an owner's groups, by their counters 'user_group:LENGTH:USER_ID GROUP_ID'. Only what is folded counts: of two that
# fold at once the later one sees a group whole.
_END_GROUPS = f"""
    INSERT INTO event_log (xid, type, user_id, data)
    SELECT event_stamp(), 'group.ended', left(named, length),
           jsonb_build_object('groupId', substr(named, length + 2), 'total', total)
      FROM (SELECT substr(counter, length('{SUM}') + 1) AS counter, sum(n) AS total
              FROM counters WHERE counter = ANY (%(sums)s) GROUP BY 1
            HAVING sum(n) > 0 AND sum(n) FILTER (WHERE key NOT IN ({_TERMINAL}) AND n <> 0) IS NULL) ended
     CROSS JOIN LATERAL CAST(split_part(counter, ':', 2) AS integer) AS length
     CROSS JOIN LATERAL substr(counter, length('user_group::' || length) + 1) AS named
    """
# A sum is zero only if a count of its status has become zero.
_DROP_ZEROS = f"""
    DELETE FROM counters c
     USING unnest(CAST(%(counters)s AS text[]), CAST(%(keys)s AS text[])) AS z(counter, key)
     CROSS JOIN LATERAL (
           VALUES (z.counter, z.key), ('{SUM}' || z.counter, split_part(z.key, ' ', 2))) AS zero(counter, key)
     WHERE c.counter = zero.counter AND c.key = zero.key AND c.n = 0
    """
COUNTED = """
    SELECT counter, key, sum(n)::bigint AS n
      FROM (SELECT user_id, gpu_id, group_id, task_type || ' ' || status AS key, count(*) AS n
              FROM tasks GROUP BY 1, 2, 3, 4) kinds
     CROSS JOIN LATERAL (
           VALUES ('tasks'), ('user:' || user_id), ('gpu:' || gpu_id),
                  ('user_gpu:' || length(user_id) || ':' || user_id || ' ' || gpu_id), ('group:' || group_id),
                  ('user_group:' || length(user_id) || ':' || user_id || ' ' || group_id)) AS c (counter)
     WHERE counter IS NOT NULL
     GROUP BY 1, 2
     UNION ALL SELECT 'gpus', status, count(*) FROM gpus WHERE gone_at IS NULL GROUP BY 2
     UNION ALL SELECT 'alerts', level || ' ' || status, count(*) FROM alerts GROUP BY 2
"""
"""Every kept count, as the rows have it."""
_OF_TASKS = listed(("tasks", "user", "gpu", "user_gpu", "group", "user_group"))
"""The families of counters of tasks: a counter's name up to its first colon."""
KEPT = f"""
    SELECT counter, key, sum(n)::bigint AS n
      FROM (SELECT counter, key, n FROM counters UNION ALL SELECT counter, key, n FROM counter_deltas) both_tables
     WHERE split_part(counter, ':', 1) IN ({_OF_TASKS}, 'gpus', 'alerts')
     GROUP BY 1, 2 HAVING sum(n) <> 0
"""
"""Every count in COUNTED, as the counters have it, without those of a later version."""
# Also one statement: of a concurrent change it sees the row and its difference, or neither. So it appends
# exactly what is missing, and blocks no other transaction.
_RECOUNT = f"""
    WITH counted AS ({COUNTED}), kept AS ({KEPT})
    INSERT INTO counter_deltas (counter, key, n)
    SELECT counter, key, COALESCE(counted.n, 0) - COALESCE(kept.n, 0) FROM counted FULL JOIN kept USING (counter, key)
     WHERE counted.n IS DISTINCT FROM kept.n
    RETURNING counter, key, n
    """
SUMS_WRONG = f"""
    SELECT counter, key, COALESCE(added.n, 0) - COALESCE(kept.n, 0) AS n
      FROM (SELECT '{SUM}' || counter AS counter, split_part(key, ' ', 2) AS key, sum(n)::bigint AS n FROM counters
             WHERE split_part(counter, ':', 1) IN ({_OF_TASKS})
             GROUP BY 1, 2) added
      FULL JOIN (SELECT counter, key, n FROM counters WHERE starts_with(counter, '{SUM}')) kept USING (counter, key)
     WHERE COALESCE(added.n, 0) <> COALESCE(kept.n, 0)
"""
"""The sums over types (`kinds`) that differ from what is added up, and by how much."""
_SUM_ANEW = f"""
    WITH wrong AS MATERIALIZED ({SUMS_WRONG}),
    corrected AS (
        INSERT INTO counters AS c (counter, key, n) SELECT counter, key, n FROM wrong ORDER BY counter, key
            ON CONFLICT (counter, key) DO UPDATE SET n = c.n + excluded.n)
    SELECT counter, key, n FROM wrong
    """
_REST = "make_interval(secs => %(rest)s * CAST(body ->> 'took_s' AS float))"
_RECOUNT_IS_DUE = (
    f"SELECT NOT EXISTS (SELECT FROM monitor_reports WHERE name = 'recount' AND {clock.recent('at', _REST)})"
)
RECOUNT_LIMIT_S = 40.0
_LIMIT = f"SET LOCAL statement_timeout = '{RECOUNT_LIMIT_S:g}s'"  # within one step of the monitor
RECOUNT_REST = 500
"""The pause between two recounts, as a multiple of the last one's duration: 0.2 % of one core at any size."""


@dataclass
class Counts:
    """All counts of one moment."""

    tasks: Mapping[Kind, int] = field(default_factory=dict)  # by (type, status)
    gpus: dict[str, int] = field(default_factory=dict)  # by status
    alerts: dict[tuple[str, str], int] = field(default_factory=dict)  # by (level, status)


class Count(NamedTuple):
    """The sum of a counter for a key."""

    counter: str
    key: str
    n: int


class _Queued(NamedTuple):
    counter: str
    n: int


class _Folded(NamedTuple):
    counter: str
    key: str
    is_zero: bool
    may_end_group: bool


async def sums(connection: Connection, names: Sequence[str]) -> list[Count]:
    """The counters of these names, key by key, without those that are zero."""
    return await connection.all(Count, _READ, {"counters": names})


async def read(connection: Connection) -> Counts:
    """The counts that the monitoring endpoints show."""
    counts = Counts(tasks=await kinds.read(connection, "tasks"), alerts=await alerts_by_kind(connection))
    for row in await sums(connection, ["gpus"]):
        counts.gpus[row.key] = row.n
    return counts


async def alerts_by_kind(connection: Connection) -> dict[tuple[str, str], int]:
    """The number of alerts by level and status."""
    parts = {row.key.partition(" "): row.n for row in await sums(connection, ["alerts"])}
    return {(level, status): n for (level, _, status), n in parts.items()}


async def tasks_by_kind(
    connection: Connection, *, gpu_id: str | None = None, user_id: str | None = None, task_type: int | None = None
) -> dict[Kind, int]:
    """The number of tasks of a user, of a node or of both, by type and status.

    `task_type` has counts of its own in any case.
    """
    return await kinds.read(connection, _counter_of(user_id, gpu_id), () if task_type is None else (task_type,))


async def of_group(connection: Connection, group_id: str, user_id: str | None) -> dict[Kind, int]:
    """The number of tasks of a group by type and status: of one owner, or of all together."""
    counter = f"group:{group_id}" if user_id is None else f"user_group:{len(user_id)}:{user_id} {group_id}"
    return await kinds.read(connection, counter)


async def queued_of(connection: Connection, user_ids: Collection[str]) -> Counter[str]:
    """The number of QUEUED tasks of each of these users, of all types."""
    names = {_counter_of(user_id, None): user_id for user_id in user_ids}
    values = {"counters": list(names), "sums": [SUM + name for name in names]}
    return Counter({names[counter]: n for counter, n in await connection.all(_Queued, _QUEUED_OF, values)})


def matching(counted: Mapping[Kind, int], *, status: str | None, task_type: int | None) -> int:
    """The number of these with the status and the type; None for any."""
    found = by_status(counted, task_type)
    return found.total() if status is None else found[status]


async def unfinished_by_type(connection: Connection, types: Collection[int]) -> Counter[int]:
    """The number of tasks of each of these types that have not ended."""
    return by_type(await kinds.of_types(connection, "tasks", types), UNFINISHED)


async def fold(connection: Connection) -> None:
    """Add the differences up, and log the end of groups whose last task has ended. Two at once do no harm."""
    folded = await connection.all(_Folded, _FOLD)
    if groups := sorted({row.counter for row in folded if row.may_end_group}):
        await connection.execute(_END_GROUPS, {"sums": [SUM + group for group in groups]})
    if zeros := [row for row in folded if row.is_zero]:
        values = {"counters": [row.counter for row in zeros], "keys": [row.key for row in zeros]}
        await connection.execute(_DROP_ZEROS, values)


async def recount_is_due(connection: Connection) -> bool:
    """Whether the last recount is long enough ago, measured by its duration."""
    return await connection.one(bool, _RECOUNT_IS_DUE, {"rest": RECOUNT_REST})


async def recount(connection: Connection) -> list[str]:
    """Compare every count with the rows and correct it. Returns what was wrong, and by how much.

    If the database is too large for a recount within RECOUNT_LIMIT_S, the caller calls `recount_later`.
    """
    await connection.execute(_LIMIT)
    began = await clock.now(connection)
    found = await connection.all(Count, _RECOUNT) + await connection.all(Count, _SUM_ANEW)
    wrong = [f"{row.counter} {row.key}: {row.n:+}" for row in found]
    ended = await clock.now(connection)
    await monitor_reports.keep(connection, "recount", {"took_s": (ended - began).total_seconds()})
    return wrong


async def recount_later(connection: Connection) -> None:
    """Postpone the next recount after a failure, as if the recount had taken its whole limit."""
    await monitor_reports.keep(connection, "recount", {"took_s": RECOUNT_LIMIT_S})


def _counter_of(user_id: str | None, gpu_id: str | None) -> str:
    """The counter for the tasks of a user, a node, or both (migration 0005)."""
    if user_id is None:
        return "tasks" if gpu_id is None else f"gpu:{gpu_id}"
    return f"user:{user_id}" if gpu_id is None else f"user_gpu:{len(user_id)}:{user_id} {gpu_id}"

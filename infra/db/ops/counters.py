"""The counts of monitoring: triggers append differences (migrations 0003 to 0005, 0036), the leader adds them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from infra.db import clock
from infra.db.connection import Connection, listed
from infra.db.ops import monitor_reports
from workflows.domain.task import TERMINAL

# One statement, one snapshot: a reader sees a difference either still apart or added, never both or neither.
_READ = """
    SELECT counter, key, sum(n)::bigint AS n
      FROM (SELECT counter, key, n FROM counters WHERE counter = ANY (%(counters)s)
             UNION ALL SELECT counter, key, n FROM counter_deltas WHERE counter = ANY (%(counters)s)) both_tables
     GROUP BY counter, key HAVING sum(n) <> 0
"""
_QUEUED_OF = """
    SELECT COALESCE(sum(n), 0)::bigint
      FROM (SELECT key, n FROM counters WHERE counter = %(counter)s
             UNION ALL SELECT key, n FROM counter_deltas WHERE counter = %(counter)s) both_tables
     WHERE key LIKE '%% QUEUED'
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
      FROM (SELECT counter, sum(n) AS total FROM counters c WHERE counter = ANY (%(counters)s) GROUP BY counter
            HAVING sum(n) > 0 AND sum(n) FILTER (WHERE NOT {_has_ended("c")} AND n <> 0) IS NULL) ended
     CROSS JOIN LATERAL CAST(split_part(counter, ':', 2) AS integer) AS length
     CROSS JOIN LATERAL substr(counter, length('user_group::' || length) + 1) AS named
    """
_DROP_ZEROS = (
    "DELETE FROM counters c USING unnest(CAST(%(counters)s AS text[]), CAST(%(keys)s AS text[])) AS z(counter, key)"
    " WHERE c.counter = z.counter AND c.key = z.key AND c.n = 0"
)
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
KEPT = """
    SELECT counter, key, sum(n)::bigint AS n
      FROM (SELECT counter, key, n FROM counters UNION ALL SELECT counter, key, n FROM counter_deltas) both_tables
     WHERE split_part(counter, ':', 1) IN ('tasks', 'user', 'gpu', 'user_gpu', 'group', 'user_group', 'gpus',
                                          'alerts')
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
_REST = "make_interval(secs => %(rest)s * CAST(body ->> 'took_s' AS float))"
_RECOUNT_IS_DUE = (
    f"SELECT NOT EXISTS (SELECT FROM monitor_reports WHERE name = 'recount' AND {clock.recent('at', _REST)})"
)
RECOUNT_LIMIT_S = 40.0
_LIMIT = f"SET LOCAL statement_timeout = '{RECOUNT_LIMIT_S:g}s'"  # within one step of the monitor
RECOUNT_REST = 500
"""The pause between two recounts, as a multiple of the last one's duration: 0.2 % of one core at any size."""
_GENERAL = ["tasks", "gpus", "alerts"]


@dataclass
class Counts:
    """All counts of one moment."""

    tasks: dict[tuple[int, str], int] = field(default_factory=dict)  # by (type, status)
    gpus: dict[str, int] = field(default_factory=dict)  # by status
    alerts: dict[tuple[str, str], int] = field(default_factory=dict)  # by (level, status)


class Count(NamedTuple):
    """The sum of a counter for a key."""

    counter: str
    key: str
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
    counts = Counts()
    for row in await sums(connection, _GENERAL):
        if row.counter == "tasks":
            counts.tasks[_type_and_status(row.key)] = row.n
        elif row.counter == "gpus":
            counts.gpus[row.key] = row.n
        else:
            level, _, status = row.key.partition(" ")
            counts.alerts[level, status] = row.n
    return counts


async def tasks_by_kind(
    connection: Connection, *, gpu_id: str | None = None, user_id: str | None = None
) -> dict[tuple[int, str], int]:
    """The number of tasks of a user, of a node or of both, by type and status."""
    rows = await sums(connection, [_counter_of(user_id, gpu_id)])
    return {_type_and_status(row.key): row.n for row in rows}


async def of_group(connection: Connection, group_id: str, user_id: str | None) -> dict[tuple[int, str], int]:
    """The number of tasks of a group by type and status: of one owner, or of all together."""
    counter = f"group:{group_id}" if user_id is None else f"user_group:{len(user_id)}:{user_id} {group_id}"
    rows = await sums(connection, [counter])
    return {_type_and_status(row.key): row.n for row in rows}


async def queued_of(connection: Connection, user_id: str) -> int:
    """The number of a user's QUEUED tasks, of all types."""
    return await connection.one(int, _QUEUED_OF, {"counter": _counter_of(user_id, None)})


def matching(kinds: dict[tuple[int, str], int], *, status: str | None, task_type: int | None) -> int:
    """The number of these with the status and the type; None for any."""
    return sum(
        n for (its_type, its_status), n in kinds.items() if _fits(its_status, status) and _fits(its_type, task_type)
    )


def _fits(value: object, wanted: object | None) -> bool:
    return wanted is None or value == wanted


async def unfinished_by_type(connection: Connection) -> Counter[int]:
    """The number of each type's tasks that have not ended."""
    found: Counter[int] = Counter()
    for (task_type, status), n in (await read(connection)).tasks.items():
        found[task_type] += n if status not in TERMINAL else 0
    return found


async def fold(connection: Connection) -> None:
    """Add the differences up, and log the end of groups whose last task has ended. Two at once do no harm."""
    folded = await connection.all(_Folded, _FOLD)
    if groups := sorted({row.counter for row in folded if row.may_end_group}):
        await connection.execute(_END_GROUPS, {"counters": groups})
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
    wrong = [f"{row.counter} {row.key}: {row.n:+}" for row in await connection.all(Count, _RECOUNT)]
    ended = await clock.now(connection)
    await monitor_reports.keep(connection, "recount", {"took_s": (ended - began).total_seconds()})
    return wrong


async def recount_later(connection: Connection) -> None:
    """Put the next recount off, after a failure, as if the recount had taken its whole limit."""
    await monitor_reports.keep(connection, "recount", {"took_s": RECOUNT_LIMIT_S})


def _counter_of(user_id: str | None, gpu_id: str | None) -> str:
    """The counter for the tasks of a user, a node, or both (migration 0005)."""
    if user_id is None:
        return "tasks" if gpu_id is None else f"gpu:{gpu_id}"
    return f"user:{user_id}" if gpu_id is None else f"user_gpu:{len(user_id)}:{user_id} {gpu_id}"


def _type_and_status(key: str) -> tuple[int, str]:
    task_type, _, status = key.partition(" ")
    return int(task_type), status

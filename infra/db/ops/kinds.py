"""The kept counts of tasks by type and status: a bounded number of rows, since callers may invent any number of types.

A counter with few types is read as it is. Of one with more, the types that a node serves are read, and the sum of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from infra.db.connection import Connection
from workflows.domain.task import TaskStatus

T = TypeVar("T", int, int | None)

Kind = tuple[int | None, str]
"""A type and a status. The type is None for all types without a count of their own."""

OTHER = "other"
"""The label of these types together."""

MOST = 1_000
"""Types and statuses up to which each has a count of its own."""
MOST_SERVED = 200
"""Types that nodes serve with counts of their own in any case."""
SUM = "sum:"
"""The prefix of the sums of a counter over its types, by status (migration 0050)."""

# One statement, one snapshot: a reader sees a difference either still apart or added, never both or neither.
_FEW = """
    SELECT key, sum(n)::bigint AS n
      FROM ((SELECT key, n FROM counters WHERE counter = %(counter)s ORDER BY key LIMIT %(limit)s)
             UNION ALL SELECT key, n FROM counter_deltas WHERE counter = %(counter)s) both_tables
     GROUP BY key LIMIT %(limit)s
"""
_SOME = """
    SELECT key, n FROM counters WHERE counter = %(counter)s AND key = ANY (%(keys)s)
     UNION ALL SELECT key, n FROM changes WHERE key = ANY (%(keys)s)
"""
_CHANGES = "WITH changes AS MATERIALIZED (SELECT key, n FROM counter_deltas WHERE counter = %(counter)s)"
_OF_TYPES = f"{_CHANGES} SELECT key, sum(n)::bigint AS n FROM ({_SOME}) of_types GROUP BY key"
_MANY = f"""
    {_CHANGES}
    SELECT key, sum(n)::bigint AS n
      FROM (SELECT key, n FROM counters WHERE counter = '{SUM}' || %(counter)s
             UNION ALL SELECT split_part(key, ' ', 2), n FROM changes
             UNION ALL {_SOME}) all_and_some
     GROUP BY key
"""
_SERVED = f"""
    SELECT DISTINCT unnest(task_types) AS task_type FROM gpus WHERE gone_at IS NULL ORDER BY 1 LIMIT {MOST_SERVED}
"""


class _Row(NamedTuple):
    key: str
    n: int


async def read(connection: Connection, counter: str, wanted: Collection[int] = ()) -> dict[Kind, int]:
    """The counts of a counter that are not zero. The types in `wanted` have counts of their own in any case."""
    rows = await connection.all(_Row, _FEW, {"counter": counter, "limit": MOST + 1})
    if len(rows) > MOST:
        served = await connection.all(int, _SERVED)
        values = {"counter": counter, "keys": _keys({*served, *wanted})}
        rows = _with_others(await connection.all(_Row, _MANY, values))
    return {_kind(row.key): row.n for row in rows if row.n}


async def of_types(connection: Connection, counter: str, types: Collection[int]) -> dict[tuple[int, str], int]:
    """The counts of these types alone."""
    rows = await connection.all(_Row, _OF_TYPES, {"counter": counter, "keys": _keys(types)})
    return {(int(row.key.partition(" ")[0]), row.key.partition(" ")[2]): row.n for row in rows if row.n}


def by_status(counted: Mapping[tuple[T, str], int], task_type: int | None = None) -> Counter[str]:
    """The number in each status, zeros included: of one type, or of all."""
    found = Counter(dict.fromkeys(map(str, TaskStatus), 0))
    for (its_type, status), n in counted.items():
        found[status] += n if task_type in (None, its_type) else 0
    return found


def by_type(counted: Mapping[tuple[T, str], int], statuses: Collection[str] = frozenset(TaskStatus)) -> Counter[T]:
    """The number in these statuses together, by type; a type without any is left out."""
    found: Counter[T] = Counter()
    for (task_type, status), n in counted.items():
        if status in statuses:
            found[task_type] += n
    return found


def _keys(types: Iterable[int]) -> list[str]:
    return [f"{task_type} {status}" for task_type in types for status in TaskStatus]


def _with_others(rows: Iterable[_Row]) -> list[_Row]:
    """The rows with the sum of each status cut down to the types without a row."""
    found = {row.key: row.n for row in rows}
    for key, n in found.items():
        _, is_of_type, status = key.partition(" ")
        if is_of_type and status in found:
            found[status] -= n
    return [_Row(*one) for one in found.items()]


def _kind(key: str) -> Kind:
    first, is_of_type, status = key.partition(" ")
    return (int(first), status) if is_of_type else (None, first)

"""Places in the queue, and how many tasks wait before one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.queue import order
from infra.db.queue.order import QueuePlace, Ranked

_key = attrgetter("key")

COUNTED = 500
"""Tasks before a place, of each type and class, that are counted one by one."""

# In the queue's order, otherwise the plan may read the table from its beginning, where no task waits any more.
_COUNT = f"""
    (SELECT count(*) FROM (
            SELECT FROM tasks q WHERE q.task_type = types.task_type AND q.waiting_since IS NOT NULL AND {{}}
             ORDER BY {order.in_order("q")} LIMIT CAST(%(limit)s AS bigint)) stretch)"""
# Work ahead on slots that the task can use: the types that share a node with it, each read from its index.
_AHEAD = f"""
    SELECT COALESCE(sum(more.n), 0)::bigint
      FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (SELECT {" + ".join(map(_COUNT.format, order.before("q")))} AS n) more
    """
_MILESTONES = f"""
    SELECT {order.columns("numbered")}, waiting
      FROM (SELECT {order.columns("t")}, count(*) OVER (PARTITION BY t.queue_class) AS waiting,
                   row_number() OVER (PARTITION BY t.queue_class ORDER BY {order.in_class("t")}) - 1 AS n
              FROM tasks t WHERE t.task_type = %(task_type)s AND t.waiting_since IS NOT NULL) numbered
     WHERE n %% %(every)s = 0 ORDER BY queue_class, n
    """
_BETWEEN = f"""
    SELECT COALESCE(sum(behind.n), 0)::bigint
      FROM unnest(CAST(%(task_types)s AS bigint[]), {order.ARRAYS}) AS mark(task_type, {order.NAMES})
     CROSS JOIN LATERAL (
           SELECT count(*) AS n FROM tasks q
            WHERE q.task_type = mark.task_type AND q.waiting_since IS NOT NULL AND {order.between("q", "mark")}) behind
    """

_FIRST = f"""
    SELECT task_id, n - 1 AS ahead
      FROM (SELECT q.task_id, row_number() OVER (ORDER BY {order.in_order("q")}) AS n
              FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
             CROSS JOIN LATERAL (
                   SELECT t.task_id, {order.columns("t")} FROM tasks t
                    WHERE t.task_type = types.task_type AND t.waiting_since IS NOT NULL
                    ORDER BY {order.in_order("t")} LIMIT %(limit)s) q) numbered
     WHERE n <= %(limit)s AND task_id = ANY(CAST(%(task_ids)s AS text[]))
    """


@dataclass(frozen=True)
class Milestones:
    """The number of a type's waiting tasks in each class, and the place of every n-th one: a long queue in a few
    rows."""

    every: int
    waiting: dict[int, int]
    marks: dict[int, list[QueuePlace]]

    def about(self, place: QueuePlace) -> int:
        """About how many tasks wait before a place: half of those between two marks are counted."""
        count, mark = self.before(place)
        if mark == QueuePlace.head(place.queue_class):
            return count
        behind = sum(n for queue_class, n in self.waiting.items() if queue_class >= place.queue_class) - count
        return count + (min(self.every, behind) + 1) // 2

    def before(self, place: QueuePlace) -> tuple[int, QueuePlace]:
        """The number of tasks before the last mark ahead of a place, and that mark, or the head of its class."""
        above = sum(count for queue_class, count in self.waiting.items() if queue_class > place.queue_class)
        marks = self.marks.get(place.queue_class, [])
        passed = bisect_right(marks, place.key, key=_key)
        if passed == 0:
            return above, QueuePlace.head(place.queue_class)
        return above + (passed - 1) * self.every, marks[passed - 1]


class _Ahead(NamedTuple):
    task_id: str
    ahead: int


@dataclass(frozen=True)
class _Milestone(Ranked):
    waiting: int


async def ahead(connection: Connection, place: QueuePlace, pool: list[int], *, limit: int | None) -> int:
    """The number of tasks that wait before this place for slots that it can use, at most `limit` per type and class."""
    values = {**place.__dict__, "pool": pool, "limit": limit}
    return await connection.one(int, _AHEAD, values)


async def first(connection: Connection, pool: list[int], task_ids: Sequence[str], *, limit: int) -> dict[str, int]:
    """The number of tasks ahead of each of these tasks; those beyond the first `limit` of the pool are missing."""
    values = {"pool": pool, "task_ids": list(task_ids), "limit": limit}
    return {row.task_id: row.ahead for row in await connection.all(_Ahead, _FIRST, values)}


async def milestones(connection: Connection, task_type: int, *, every: int) -> Milestones:
    """The milestones of a type's queue. The cost grows with the queue, so callers share one answer for a moment."""
    found = Milestones(every, {}, {})
    for row in await connection.all(_Milestone, _MILESTONES, {"task_type": task_type, "every": every}):
        found.waiting[row.queue_class] = row.waiting
        found.marks.setdefault(row.queue_class, []).append(row.place)
    return found


async def between(connection: Connection, marks: dict[int, QueuePlace], place: QueuePlace) -> int:
    """The number of tasks between each type's mark, included, and a place."""
    values = {**place.__dict__, **order.arrays(marks.values()), "task_types": list(marks)}
    return await connection.one(int, _BETWEEN, values)

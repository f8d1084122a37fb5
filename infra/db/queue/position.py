"""Places in the queue, and how many tasks wait before one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.queue import order
from infra.db.queue.order import Mark, Place

# Work ahead on slots that the task can use: the types that share a node with it, each read from its index.
_AHEAD = f"""
    SELECT COALESCE(sum(more.n), 0)::bigint
      FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT (SELECT count(*) FROM (
                   SELECT FROM tasks q WHERE q.task_type = types.task_type AND q.waiting_since IS NOT NULL
                      AND q.queue_class > %(queue_class)s LIMIT CAST(%(limit)s AS bigint)) above)
                + (SELECT count(*) FROM (
                   SELECT FROM tasks q WHERE q.task_type = types.task_type AND q.waiting_since IS NOT NULL
                      AND q.queue_class = %(queue_class)s AND {order.before("q")}
                    LIMIT CAST(%(limit)s AS bigint)) before) AS n) more
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
      FROM unnest(CAST(%(task_types)s AS bigint[]), CAST(%(ranks)s AS float[]), CAST(%(display_ids)s AS bigint[]))
           AS mark(task_type, rank, display_id)
     CROSS JOIN LATERAL (
           SELECT count(*) AS n FROM tasks q
            WHERE q.task_type = mark.task_type AND q.waiting_since IS NOT NULL AND q.queue_class = %(queue_class)s
              AND ({order.in_class("q")}) >= (mark.rank, mark.display_id) AND {order.before("q")}) behind
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
    marks: dict[int, list[Mark]]

    def about(self, place: Place) -> int:
        """About how many tasks wait before a place: half of those between two marks are counted."""
        count, (rank, _) = self.before(place)
        if rank == -inf:
            return count
        behind = sum(n for queue_class, n in self.waiting.items() if queue_class >= place.queue_class) - count
        return count + (min(self.every, behind) + 1) // 2

    def before(self, place: Place) -> tuple[int, Mark]:
        """The number of tasks before the last mark ahead of a place, and that mark."""
        above = sum(count for queue_class, count in self.waiting.items() if queue_class > place.queue_class)
        marks = self.marks.get(place.queue_class, [])
        passed = bisect_right(marks, place.mark)
        if passed == 0:
            return above, (-inf, 0)
        return above + (passed - 1) * self.every, marks[passed - 1]


class _Ahead(NamedTuple):
    task_id: str
    ahead: int


class _Milestone(NamedTuple):
    queue_class: int
    queue_rank: float
    display_id: int
    waiting: int


async def ahead(connection: Connection, place: Place, pool: list[int], *, limit: int | None) -> int:
    """The number of tasks that wait before this place for slots that it can use, at most `limit` per type and class."""
    values = {**place.__dict__, "pool": pool, "limit": limit}
    return await connection.one(int, _AHEAD, values)


async def first(connection: Connection, pool: list[int], task_ids: Sequence[str], *, limit: int) -> dict[str, int]:
    """The number of tasks ahead of each of these that is among the first `limit` of a pool."""
    values = {"pool": pool, "task_ids": list(task_ids), "limit": limit}
    return {row.task_id: row.ahead for row in await connection.all(_Ahead, _FIRST, values)}


async def milestones(connection: Connection, task_type: int, *, every: int) -> Milestones:
    """The milestones of a type's queue. The cost grows with the queue, so callers share one answer for a moment."""
    found = Milestones(every, {}, {})
    for row in await connection.all(_Milestone, _MILESTONES, {"task_type": task_type, "every": every}):
        found.waiting[row.queue_class] = row.waiting
        found.marks.setdefault(row.queue_class, []).append(Place.of(row).mark)
    return found


async def between(connection: Connection, marks: dict[int, Mark], place: Place) -> int:
    """The number of tasks between each type's mark, included, and a place."""
    values = {
        **place.__dict__,
        "task_types": list(marks),
        "ranks": [rank for rank, _ in marks.values()],
        "display_ids": [display_id for _, display_id in marks.values()],
    }
    return await connection.one(int, _BETWEEN, values)

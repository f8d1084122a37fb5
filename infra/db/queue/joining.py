"""Many tasks that join the queue at once, each where it would if they came one after the other.

The queues are read once; the rest is arithmetic.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.queue import order

# As in `order.join`: the head of each type and class, and the last task of each flow.
_HEADS = """
    SELECT types.task_type, classes.queue_class, head.queue_rank
      FROM unnest(CAST(%(types)s AS bigint[])) AS types(task_type)
     CROSS JOIN (VALUES (0), (1)) AS classes(queue_class)
     CROSS JOIN LATERAL (
           SELECT q.queue_rank FROM tasks q
            WHERE q.task_type = types.task_type AND q.queue_class = classes.queue_class AND q.waiting_since IS NOT NULL
              {but}
            ORDER BY q.queue_rank LIMIT 1) head
    """
_LASTS = f"""
    SELECT types.task_type, flows.queue_class, flows.flow, last.queue_rank
      FROM unnest(CAST(%(types)s AS bigint[])) AS types(task_type)
     CROSS JOIN unnest(CAST(%(classes)s AS integer[]), CAST(%(flows)s AS text[])) AS flows(queue_class, flow)
     CROSS JOIN LATERAL (
           SELECT q.queue_rank FROM tasks q
            WHERE q.task_type = types.task_type AND q.queue_class = flows.queue_class
              AND {order.FLOW.format(task="q")} = flows.flow
              AND q.waiting_since IS NOT NULL AND q.promoted_at IS NULL {{but}}
            ORDER BY q.queue_rank DESC LIMIT 1) last
    """
_FRONTS = f"""
    SELECT types.task_type, front.queue_class, front.queue_rank
      FROM unnest(CAST(%(types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT q.queue_class, q.queue_rank FROM tasks q
            WHERE q.task_type = types.task_type AND q.waiting_since IS NOT NULL
            ORDER BY {order.in_order("q")} LIMIT %(limit)s) front
    """
_BUT_OWN = "AND q.xmin <> CAST(pg_current_xact_id() AS xid)"

Place = tuple[int, float]
"""A class, negated, and a rank: smaller goes first."""


@dataclass(frozen=True)
class Joins:
    """A task that joins the queue; `pool`: the types that share a node with its own."""

    task_type: int
    queue_class: int
    flow: str
    weight: float
    pool: Collection[int]


class _Head(NamedTuple):
    task_type: int
    queue_class: int
    queue_rank: float


class _Last(NamedTuple):
    task_type: int
    queue_class: int
    flow: str
    queue_rank: float


@dataclass
class Queues:
    """The queues of some types, as far as the ranks of new tasks depend on them."""

    _heads: dict[tuple[int, int], float]
    _lasts: dict[tuple[int, int, str], float]

    @classmethod
    async def read(
        cls, connection: Connection, types: Collection[int], joining: Iterable[Joins], *, own: bool = True
    ) -> Queues:
        """The queues now, with what this transaction has written itself or without."""
        heads = await connection.all(_Head, _HEADS.format(but="" if own else _BUT_OWN), {"types": list(types)})
        lasts = await _lasts(connection, types, joining, own=own)
        return cls({(one.task_type, one.queue_class): one.queue_rank for one in heads}, lasts)

    async def is_behind(self, connection: Connection, types: Collection[int], joining: Iterable[Joins]) -> bool:
        """Whether a flow has got more tasks since, from another transaction."""
        now = await _lasts(connection, types, joining, own=False)
        return any(rank > self._lasts.get(key, -inf) for key, rank in now.items())

    def ranks(self, joining: Iterable[Joins]) -> list[float]:
        """The ranks of tasks that join now, in this order. The queues stay as they were read."""
        queues = Queues(self._heads.copy(), self._lasts.copy())
        return [queues.join(one) for one in joining]

    def join(self, one: Joins) -> float:
        """The rank of a task that joins now."""
        own = (one.task_type, one.queue_class)
        virtual_time = self._heads.get(own)
        if virtual_time is None:
            others = (self._heads[key] for other in one.pool if (key := (other, one.queue_class)) in self._heads)
            virtual_time = min(others, default=0.0)
        of_flow = [(other, one.queue_class, one.flow) for other in one.pool]
        last = max((self._lasts[at] for at in of_flow if at in self._lasts), default=None)
        rank = order.rank_of(virtual_time, last, one.weight)
        self._heads[own] = min(self._heads.get(own, rank), rank)
        self._lasts[*own, one.flow] = max(self._lasts.get((*own, one.flow), rank), rank)
        return rank


async def _lasts(
    connection: Connection, types: Collection[int], joining: Iterable[Joins], *, own: bool
) -> dict[tuple[int, int, str], float]:
    flows = list({(one.queue_class, one.flow) for one in joining})
    values = {"types": list(types), "classes": [at for at, _ in flows], "flows": [flow for _, flow in flows]}
    found = await connection.all(_Last, _LASTS.format(but="" if own else _BUT_OWN), values)
    return {(one.task_type, one.queue_class, one.flow): one.queue_rank for one in found}


class Fronts:
    """The places at the front of some types' queues, for the estimates of new tasks."""

    def __init__(self, found: Iterable[_Head], most: int) -> None:
        self._most = most
        self._waiting: defaultdict[int, list[Place]] = defaultdict(list)
        self._new: defaultdict[int, list[Place]] = defaultdict(list)
        for row in found:
            self._waiting[row.task_type].append((-row.queue_class, row.queue_rank))

    @classmethod
    async def read(cls, connection: Connection, types: Collection[int], most: int) -> Fronts:
        """The first `most` places of each type's queue."""
        return cls(await connection.all(_Head, _FRONTS, {"types": list(types), "limit": most}), most)

    def join(self, one: Joins, rank: float) -> tuple[int, bool]:
        """The number of tasks before a new one, and whether there may be more than that."""
        place, ahead, is_more = (-one.queue_class, rank), 0, False
        for task_type in one.pool:
            before = bisect_right(self._waiting[task_type], place)
            ahead += before + bisect_right(self._new[task_type], place)
            is_more |= before >= self._most
        insort(self._new[one.task_type], place)
        return ahead, is_more

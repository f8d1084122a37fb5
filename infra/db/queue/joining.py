"""Many tasks that join the queue at once, each where it would if they came one after the other.

The queues are read once; the rest is arithmetic.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.queue import order, ranks
from infra.db.queue.order import QueuePlace, Ranked

# As in `ranks.join`: the head of each type and class, and the last task of each flow over the types of its pool.
_HEADS = """
    SELECT types.task_type, classes.queue_class, head.rank
      FROM unnest(CAST(%(types)s AS bigint[])) AS types(task_type)
     CROSS JOIN (VALUES (0), (1)) AS classes(queue_class)
     CROSS JOIN LATERAL {head} head
    """
_LASTS = """
    SELECT flows.pool, flows.queue_class, flows.flow, max(last.rank) AS rank
      FROM unnest(CAST(%(pools)s AS integer[]), CAST(%(classes)s AS integer[]), CAST(%(flows)s AS text[]))
           AS flows(pool, queue_class, flow)
      JOIN unnest(CAST(%(numbers)s AS integer[]), CAST(%(types)s AS bigint[])) AS types(pool, task_type)
           ON types.pool = flows.pool
     CROSS JOIN LATERAL {last} last
     GROUP BY flows.pool, flows.queue_class, flows.flow
    """
_FRONTS = f"""
    SELECT types.task_type, {order.columns("front")}
      FROM unnest(CAST(%(types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT {order.columns("q")} FROM tasks q
            WHERE q.task_type = types.task_type AND q.waiting_since IS NOT NULL AND {{but}}
            ORDER BY {order.in_order("q")} LIMIT %(limit)s) front
    """
_BUT_OWN = "q.xmin <> CAST(pg_current_xact_id() AS xid)"


@dataclass(frozen=True)
class Joins:
    """A task that joins the queue; `pool`: the number of the pool of its type."""

    task_type: int
    queue_class: int
    flow: str
    weight: float
    pool: int


class Pools:
    """The pools of the types of some tasks, numbered. A pool: the types that share a node with one of them."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}
        self.of_type: defaultdict[int, list[int]] = defaultdict(list)
        """The numbers of the pools that have a type."""

    def number(self, types: Iterable[int]) -> int:
        """The number of a pool, which may be a new one."""
        pool = tuple(types)
        number = self._numbers.get(pool)
        if number is None:
            number = self._numbers[pool] = len(self._numbers)
            for task_type in pool:
                self.of_type[task_type].append(number)
        return number

    @property
    def all(self) -> list[tuple[int, ...]]:
        """The pools by their numbers."""
        return list(self._numbers)

    @property
    def types(self) -> list[int]:
        """The types of all pools."""
        return sorted(self.of_type)


class _Head(NamedTuple):
    task_type: int
    queue_class: int
    rank: float


class _Last(NamedTuple):
    pool: int
    queue_class: int
    flow: str
    rank: float


@dataclass(frozen=True)
class Front(Ranked):
    """A place at the front of a type's queue."""

    task_type: int


Lasts = dict[tuple[int, int, str], float]
"""The rank of the last task of each pool, class and flow."""


@dataclass
class Queues:
    """The queues of some pools, as far as the ranks of new tasks depend on them."""

    _pools: Pools
    _heads: dict[tuple[int, int], float]
    _lasts: Lasts

    @classmethod
    async def read(cls, connection: Connection, pools: Pools, joining: Iterable[Joins]) -> Queues:
        """The queues now. This transaction has written none of these tasks yet."""
        return cls(pools, await _heads(connection, pools), await _lasts(connection, pools, joining))

    async def moved_on(self, connection: Connection, joining: Iterable[Joins]) -> Queues | None:
        """The queues now, without what this transaction has written, if a flow has got more tasks since, or None."""
        lasts = await _lasts(connection, self._pools, joining, but=_BUT_OWN)
        if not any(rank > self._lasts.get(key, -inf) for key, rank in lasts.items()):
            return None
        return Queues(self._pools, await _heads(connection, self._pools, but=_BUT_OWN), lasts)

    def ranks(self, joining: Iterable[Joins]) -> list[float]:
        """The ranks of tasks that join now, in this order. The queues stay as they were read."""
        queues = Queues(self._pools, self._heads.copy(), self._lasts.copy())
        return [queues.join(one) for one in joining]

    def join(self, one: Joins) -> float:
        """The rank of a task that joins now."""
        own = (one.task_type, one.queue_class)
        virtual_time = self._heads.get(own)
        if virtual_time is None:
            of_pool = ((other, one.queue_class) for other in self._pools.all[one.pool])
            virtual_time = min((self._heads[key] for key in of_pool if key in self._heads), default=0.0)
        last = self._lasts.get((one.pool, one.queue_class, one.flow))
        rank = rank_of(virtual_time, last, one.weight)
        self._heads[own] = min(virtual_time, rank) if own in self._heads else rank
        for pool in self._pools.of_type[one.task_type]:
            key = (pool, one.queue_class, one.flow)
            self._lasts[key] = max(self._lasts.get(key, rank), rank)
        return rank


def rank_of(virtual_time: float, last_of_flow: float | None, weight: float) -> float:
    """`ranks.rank` as arithmetic."""
    return virtual_time if last_of_flow is None else max(virtual_time, last_of_flow + 1 / weight)


async def _heads(connection: Connection, pools: Pools, but: str = "true") -> dict[tuple[int, int], float]:
    statement = _HEADS.format(head=ranks.head("types.task_type", "classes.queue_class", but))
    found = await connection.all(_Head, statement, {"types": pools.types})
    return {(one.task_type, one.queue_class): one.rank for one in found}


async def _lasts(connection: Connection, pools: Pools, joining: Iterable[Joins], but: str = "true") -> Lasts:
    """The last tasks of the flows that join, each in its own pool only."""
    flows = {(one.pool, one.queue_class, one.flow) for one in joining}
    numbered = [(number, task_type) for number, pool in enumerate(pools.all) for task_type in pool]
    values = {
        "pools": [pool for pool, _, _ in flows],
        "classes": [queue_class for _, queue_class, _ in flows],
        "flows": [flow for _, _, flow in flows],
        "numbers": [number for number, _ in numbered],
        "types": [task_type for _, task_type in numbered],
    }
    last = ranks.last("types.task_type", "flows.queue_class", f"{ranks.of_flow('flows.flow')} AND {but}")
    found = await connection.all(_Last, _LASTS.format(last=last), values)
    return {(one.pool, one.queue_class, one.flow): one.rank for one in found}


class Fronts:
    """The places at the front of some pools' queues, for the estimates of new tasks."""

    def __init__(self, found: Iterable[Front], pools: Pools, most: int) -> None:
        """`found`: the first `most` places of each type, in order."""
        self._pools = pools
        of_type: defaultdict[int, list[order.Key]] = defaultdict(list)
        for row in found:
            of_type[row.task_type].append(row.key)
        self._places: list[list[order.Key]] = []
        self._ends: list[order.Key] = []
        for pool in pools.all:
            fronts = [of_type[task_type] for task_type in pool]
            self._places.append(sorted(chain.from_iterable(fronts)))
            self._ends.append(min((front[-1] for front in fronts if len(front) >= most), default=(inf,)))

    @classmethod
    async def read(cls, connection: Connection, pools: Pools, most: int, *, but_own: bool = False) -> Fronts:
        """The first `most` places of each type's queue; `but_own`: without what this transaction has written."""
        statement = _FRONTS.format(but=_BUT_OWN if but_own else "true")
        return cls(await connection.all(Front, statement, {"types": pools.types, "limit": most}), pools, most)

    def join(self, one: Joins, rank: float) -> tuple[int, bool]:
        """The number of tasks before a new one, and whether there may be more than that."""
        place = QueuePlace.of_new(one.queue_class, rank).key
        ahead = bisect_right(self._places[one.pool], place)
        for pool in self._pools.of_type[one.task_type]:
            insort(self._places[pool], place)
        return ahead, place >= self._ends[one.pool]

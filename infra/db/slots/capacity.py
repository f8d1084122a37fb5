"""Capacity for a task type: its nodes, their slots, the attempts on them, and how long these usually take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from infra.db import holding
from infra.db.connection import Connection
from infra.db.slots import eligibility
from infra.db.slots.eligibility import Wanted
from workflows.domain.task import USUAL_DURATION_S

_RUNS = eligibility.runs("g", eligibility.GIVEN.task_type)
_VIP_ONLY = eligibility.vip_only("g", eligibility.GIVEN)
_TAKES = eligibility.takes("g", eligibility.GIVEN)
_FITS = f"{_TAKES} AND NOT {eligibility.barred('g', eligibility.GIVEN)}"
_NODES = f"""
    SELECT count(*) AS nodes,
           count(*) FILTER (WHERE NOT runs_type) AS other_type,
           count(*) FILTER (WHERE runs_type AND vip_only) AS vip_only,
           count(*) FILTER (WHERE takes AND NOT fits) AS barred,
           count(*) FILTER (WHERE fits AND state = 'faulty') AS faulty,
           count(*) FILTER (WHERE fits AND state = 'offline') AS offline,
           count(*) FILTER (WHERE fits AND state = 'draining') AS draining,
           count(*) FILTER (WHERE fits AND state = 'resting') AS resting,
           count(*) FILTER (WHERE fits AND state = 'free' AND used >= slots) AS full,
           count(*) FILTER (WHERE fits AND state = 'free' AND used < slots) AS free,
           COALESCE(sum(slots) FILTER (WHERE fits AND state IN ('resting', 'free')), 0)::bigint AS slots,
           COALESCE(sum(GREATEST(slots - used, 0)) FILTER (WHERE fits AND state = 'free'), 0)::bigint AS free_slots
      FROM (SELECT {eligibility.slots("g")} AS slots, {eligibility.state("g")} AS state, {_RUNS} AS runs_type,
                   {_VIP_ONLY} AS vip_only, {_TAKES} AS takes, {_FITS} AS fits, {eligibility.used("g")} AS used
              FROM gpus g WHERE g.gone_at IS NULL) AS node
    """
_SHARED = f"""
    SELECT types.task_type, bool_or({eligibility.works("g")}) AS works
      FROM gpus g CROSS JOIN LATERAL unnest(g.task_types) AS types(task_type)
     WHERE {eligibility.may_work("g")} AND {_FITS} GROUP BY 1
    """
_TAKEN = f"""
    WITH fits AS (
        SELECT g.gpu_id, {eligibility.slots("g")} AS slots, {eligibility.rest_s("g")} AS rest_s FROM gpus g
         WHERE {eligibility.works("g")} AND {_FITS})
    SELECT fits.gpu_id, fits.slots, t.task_type, a.progress,
           GREATEST(extract(epoch FROM clock_timestamp() - COALESCE(a.accepted_at, a.claimed_at)), 0)::float
           AS elapsed_s, {holding.left_s("a")} AS left_s, fits.rest_s
      FROM fits JOIN attempts a ON a.gpu_id = fits.gpu_id AND {holding.holds("a")} JOIN tasks t USING (task_id)
     UNION ALL
    SELECT fits.gpu_id, fits.slots, NULL, NULL, 0, 0, fits.rest_s
      FROM fits CROSS JOIN generate_series(1, fits.slots - {eligibility.used("fits")}) WHERE fits.rest_s > 0
    """
# Said so that the plan cannot walk the index of all ended tasks, whatever their type.
_USUAL = """
    SELECT types.task_type, recent.quartiles_s
      FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT percentile_cont(CAST(ARRAY[0.25, 0.5, 0.75] AS float[])) WITHIN GROUP (ORDER BY took_s) AS quartiles_s
             FROM (SELECT extract(epoch FROM t.completed_at - t.started_at)::float AS took_s FROM tasks t
                    WHERE t.task_type = types.task_type AND t.status = 'COMPLETED'
                      AND (t.completed_at <= statement_timestamp()) IS NOT FALSE
                    ORDER BY t.completed_at DESC LIMIT 50) last) recent
     WHERE recent.quartiles_s IS NOT NULL
    """


@dataclass(frozen=True)
class Nodes:
    """How many nodes there are, and why those that are not free can't take a task of the type."""

    nodes: int
    other_type: int
    vip_only: int
    faulty: int
    offline: int
    draining: int
    resting: int
    full: int
    free: int
    slots: int
    free_slots: int
    barred: int = 0

    def reason(self) -> str:
        """The reason for people: "12 nodes: 7 other type, 3 full, 2 draining"."""
        if self.nodes == 0:
            return "no node is registered"
        words = ("other_type", "vip_only", "barred", "full", "free", "faulty", "offline", "draining", "resting")
        parts = [f"{count} {word.replace('_', ' ')}" for word in words if (count := getattr(self, word))]
        return f"{self.nodes} nodes: " + ", ".join(parts)


@dataclass(frozen=True)
class Capacity:
    """The fleet as the tasks of one type and class see it; durations in seconds."""

    nodes: Nodes
    pool: list[int]  # the types that share a node that works with this one, itself included
    remaining_s: list[float]  # what is left of each running attempt on a slot that the type can use
    usual_s: float  # the median of the type's last 50 completed tasks
    held_s: list[float] = field(default_factory=list)  # the time until each other slot, held or resting, is free
    away: list[int] = field(default_factory=list)  # further types, which share only nodes that are OFFLINE or FAULTY

    @property
    def clock(self) -> list[int]:
        """The types whose ranks depend on each other (`queue.ranks`), whether or not their nodes are there."""
        return sorted({*self.pool, *self.away})

    @cached_property
    def ends_s(self) -> list[float]:
        """Seconds until each slot that the type can use is free, the soonest first."""
        taken_s = sorted(self.remaining_s + self.held_s)
        free = max(self.nodes.slots - len(taken_s), 0)
        return [0.0] * free + taken_s if self.nodes.slots else []


class _Shared(NamedTuple):
    task_type: int
    works: bool


class _Taken(NamedTuple):
    """A slot that an attempt holds, or that rests; `slots`: all those of its node."""

    gpu_id: str
    slots: int
    task_type: int | None
    progress: int | None
    elapsed_s: float
    left_s: float | None  # null while the attempt runs
    rest_s: float

    @property
    def runs(self) -> bool:
        """Whether an attempt runs on the slot."""
        return self.task_type is not None and self.left_s is None

    def end_s(self, usual: Mapping[int, float]) -> float:
        """Seconds until the slot gets work; `usual`: durations by type."""
        if self.task_type is None or self.left_s is not None:  # not `runs`
            return max(self.left_s or 0.0, self.rest_s)
        usual_s = usual.get(self.task_type, USUAL_DURATION_S)
        return max(remaining_s(self.elapsed_s, self.progress, usual_s), self.rest_s)


class _Usual(NamedTuple):
    task_type: int
    quartiles_s: list[float]


async def read(connection: Connection, wanted: Wanted) -> Capacity:
    """The capacity for such tasks now. The cost grows with the type's nodes: callers share one answer for a moment."""
    values = wanted.parameters(connection.policy)
    nodes = await connection.one(Nodes, _NODES, values)
    shared = await connection.all(_Shared, _SHARED, values)
    pool = sorted({wanted.task_type, *(one.task_type for one in shared if one.works)})
    away = sorted({one.task_type for one in shared} - {*pool})
    usual = await usual_durations(connection, pool)
    ends = list(_last_ends(await connection.all(_Taken, _TAKEN, values), usual))
    remaining_s = [end_s for row, end_s in ends if row.runs]
    held_s = [end_s for row, end_s in ends if not row.runs]
    return Capacity(nodes, pool, remaining_s, usual.get(wanted.task_type, USUAL_DURATION_S), held_s, away)


async def usual_durations(connection: Connection, task_types: list[int]) -> dict[int, float]:
    """The median duration of each type's last 50 completed tasks, in seconds, where there is any."""
    rows = await connection.all(_Usual, _USUAL, {"task_types": task_types})
    return {row.task_type: row.quartiles_s[1] for row in rows}


async def spread_durations(connection: Connection, task_types: list[int]) -> dict[int, tuple[float, float]]:
    """The quartiles of each type's last 50 completed tasks, in seconds, where there is any: the middle half."""
    rows = await connection.all(_Usual, _USUAL, {"task_types": task_types})
    return {row.task_type: (row.quartiles_s[0], row.quartiles_s[2]) for row in rows}


def _last_ends(rows: Iterable[_Taken], usual: Mapping[int, float]) -> Iterator[tuple[_Taken, float]]:
    """The rows whose end frees a slot, each with the seconds until then.

    A node may run more attempts than it has slots, as one that runs probes: only the last ones to end free a slot.
    """
    counts = Counter[str]()
    for end_s, row in sorted(((row.end_s(usual), row) for row in rows), key=itemgetter(0), reverse=True):
        counts[row.gpu_id] += 1
        if counts[row.gpu_id] <= row.slots:
            yield row, end_s


def remaining_s(elapsed_s: float, progress: int | None, usual_s: float) -> float:
    """Seconds left by the node's own progress if it reports any, otherwise by the usual duration."""
    if progress:
        return elapsed_s * (100 - progress) / progress
    return max(usual_s - elapsed_s, 0.0)

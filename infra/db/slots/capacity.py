"""Capacity for a task type: its nodes, their slots, the attempts on them, and how long these usually take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.slots import eligibility
from workflows.domain.task import USUAL_DURATION_S

_RUNS = eligibility.runs("g", "%(task_type)s")
_SERVES = eligibility.serves_those("g", "%(vip_nodes)s")
_NODES = f"""
    SELECT count(*) AS nodes,
           count(*) FILTER (WHERE NOT runs_type) AS other_type,
           count(*) FILTER (WHERE runs_type AND NOT fits) AS vip_only,
           count(*) FILTER (WHERE fits AND status = 'FAULTY') AS faulty,
           count(*) FILTER (WHERE fits AND status = 'OFFLINE') AS offline,
           count(*) FILTER (WHERE fits AND status = 'ACTIVE' AND NOT works) AS draining,
           count(*) FILTER (WHERE fits AND works AND resting) AS backed_off,
           count(*) FILTER (WHERE fits AND works AND NOT resting AND used >= open_slots) AS full,
           count(*) FILTER (WHERE fits AND works AND NOT resting AND used < open_slots) AS free,
           COALESCE(sum(slots) FILTER (WHERE fits AND works), 0)::bigint AS slots
      FROM (SELECT g.status, g.max_concurrent_tasks AS slots, {eligibility.works("g")} AS works,
                   {_RUNS} AS runs_type, {_RUNS} AND {_SERVES} AS fits,
                   {eligibility.rests("g")} AS resting, {eligibility.slots("g")} AS open_slots,
                   {eligibility.used("g")} AS used
              FROM gpus g WHERE g.gone_at IS NULL) AS node
    """
_POOL = (
    "SELECT DISTINCT unnest(g.task_types) AS task_type FROM gpus g"
    f" WHERE g.gone_at IS NULL AND g.drained_at IS NULL AND {_RUNS} AND {_SERVES}"
)
_RUNNING = f"""
    SELECT t.task_type, a.progress,
           GREATEST(extract(epoch FROM clock_timestamp() - COALESCE(a.accepted_at, a.claimed_at)), 0)::float
           AS elapsed_s
      FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id AND a.closed_at IS NULL JOIN tasks t USING (task_id)
     WHERE {eligibility.works("g")} AND {_RUNS} AND {_SERVES}
    """
_USUAL = """
    SELECT types.task_type, recent.p50
      FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took_s) AS p50
             FROM (SELECT extract(epoch FROM t.completed_at - t.started_at)::float AS took_s FROM tasks t
                    WHERE t.task_type = types.task_type AND t.status = 'COMPLETED'
                      AND t.completed_at <= statement_timestamp()
                    ORDER BY t.completed_at DESC LIMIT 50) last) recent
     WHERE recent.p50 IS NOT NULL
    """
_SPREAD = _USUAL.replace("percentile_cont(0.5)", "percentile_cont(CAST(ARRAY[0.25, 0.75] AS float[]))").replace(
    "p50", "spread"
)


@dataclass(frozen=True)
class Nodes:
    """How many nodes there are, and why those that are not free can't take a task of the type."""

    nodes: int
    other_type: int
    vip_only: int
    faulty: int
    offline: int
    draining: int
    backed_off: int
    full: int
    free: int
    slots: int

    def reason(self) -> str:
        """For people: "12 nodes: 7 other type, 3 full, 2 draining"."""
        if self.nodes == 0:
            return "no node is registered"
        words = ("other_type", "vip_only", "full", "free", "faulty", "offline", "draining", "backed_off")
        parts = [f"{count} {word.replace('_', ' ')}" for word in words if (count := getattr(self, word))]
        return f"{self.nodes} nodes: " + ", ".join(parts)


@dataclass(frozen=True)
class Capacity:
    """The fleet as the tasks of one type and class see it; durations in seconds."""

    nodes: Nodes
    pool: list[int]  # the types that share a node with this one, itself included
    remaining_s: list[float]  # what is left of each running attempt on a slot that the type can use
    usual_s: float  # the median of the type's last 50 completed tasks

    @cached_property
    def ends_s(self) -> list[float]:
        """Seconds until each slot that the type can use is free, the soonest first."""
        free = max(self.nodes.slots - len(self.remaining_s), 0)
        return [0.0] * free + sorted(self.remaining_s) if self.nodes.slots else []


class _Running(NamedTuple):
    task_type: int
    progress: int | None
    elapsed_s: float


class _Usual(NamedTuple):
    task_type: int
    p50: float


class _Spread(NamedTuple):
    task_type: int
    spread: list[float]


async def read(connection: Connection, task_type: int, *, vip_nodes: bool) -> Capacity:
    """The capacity for a type now, with or without the nodes that serve VIP tasks first.

    The cost grows with its nodes: callers share one answer for a moment.
    """
    key = {"task_type": task_type, "vip_nodes": vip_nodes}
    nodes = await connection.one(Nodes, _NODES, key)
    pool = sorted({task_type, *await connection.all(int, _POOL, key)})
    usual = await usual_durations(connection, pool)
    remaining = [
        _remaining_s(row.elapsed_s, row.progress, usual.get(row.task_type, USUAL_DURATION_S))
        for row in await connection.all(_Running, _RUNNING, key)
    ]
    return Capacity(nodes, pool, remaining, usual.get(task_type, USUAL_DURATION_S))


async def usual_durations(connection: Connection, task_types: list[int]) -> dict[int, float]:
    """The median duration of each type's last 50 completed tasks, in seconds, where there is any."""
    rows = await connection.all(_Usual, _USUAL, {"task_types": task_types})
    return {row.task_type: row.p50 for row in rows}


async def spread_durations(connection: Connection, task_types: list[int]) -> dict[int, tuple[float, float]]:
    """The quartiles of each type's last 50 completed tasks, in seconds, where there is any: the middle half."""
    rows = await connection.all(_Spread, _SPREAD, {"task_types": task_types})
    return {row.task_type: (row.spread[0], row.spread[1]) for row in rows}


def _remaining_s(elapsed_s: float, progress: int | None, usual_s: float) -> float:
    """By the node's own progress where it reports one, else by the usual duration."""
    if progress:
        return elapsed_s * (100 - progress) / progress
    return max(usual_s - elapsed_s, 0.0)

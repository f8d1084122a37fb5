"""The amount of measurement in the short mode and in the full one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes of each measurement; durations are seconds."""

    mode: str
    warm_up: int  # tasks and bare workflows before the first sample
    latency_samples: int
    burst_tasks: int
    burst_rounds: int
    batch_tasks: int
    gap_samples: int
    deep_tasks_are_real: bool  # the queue of 10,000 through REST, each with its workflow; most others are only rows
    created_at_depth: int  # tasks created through REST while 10,000 wait
    fleet_registered: int  # nodes registered through REST, each with its workflow; the others are only rows
    fleet_quiet_s: float
    fleet_window_s: float
    many_rows: int
    read_repeats: int
    aged_tasks: int  # of each round
    ageing_rounds: int
    ageing_quiet_s: float  # of the time before each round, in which nothing is old
    waiting_tasks: int
    waiting_window_s: float  # in which the idle stack's CPU is measured
    hostile_s: float  # of each attack, and of the quiet time before it

    slots: int = 20
    batch_slots: int = 8
    shallow: int = 100
    deep: int = 10_000
    fleet_nodes: int = 1_000
    few_rows: int = 10_000


SHORT = Plan(
    mode="short",
    warm_up=8,
    latency_samples=60,
    burst_tasks=100,
    burst_rounds=2,
    batch_tasks=64,
    gap_samples=30,
    deep_tasks_are_real=False,
    created_at_depth=60,
    fleet_registered=200,
    fleet_quiet_s=4,
    fleet_window_s=12,
    many_rows=100_000,
    read_repeats=10,
    aged_tasks=2_000,
    ageing_rounds=3,
    ageing_quiet_s=5,
    waiting_tasks=2_000,
    waiting_window_s=60,
    hostile_s=1,
)
FULL = Plan(
    mode="full",
    warm_up=30,
    latency_samples=400,
    burst_tasks=400,
    burst_rounds=3,
    batch_tasks=480,
    gap_samples=90,
    deep_tasks_are_real=True,
    created_at_depth=400,
    fleet_registered=1_000,
    fleet_quiet_s=20,
    fleet_window_s=150,
    many_rows=1_000_000,
    read_repeats=60,
    aged_tasks=20_000,
    ageing_rounds=5,
    ageing_quiet_s=40,
    waiting_tasks=20_000,
    waiting_window_s=120,
    hostile_s=10,
)

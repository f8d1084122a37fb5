"""A thousand nodes that beat every ten seconds: the cost of a beat, and the growth of the nodes' histories."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tests.bench import fill
from tests.bench.figures import Figure, Of, at_most, not_run
from tests.bench.meter import PRODUCT, Usage
from tests.bench.node import BEAT_S, registration
from tests.bench.plan import Plan
from tests.bench.rig import NotSoon, Rig, eventually, say
from tests.bench.stats import Samples

TYPE = 15
AT_ONCE = 8
STARTED_S = 5.0  # s from a node's registration until its workflow runs
SETTLED_SHARE = 0.2  # of one core, used by worker and Temporal together
LOOK_S = 1.0
SAMPLED = 40  # histories that are looked at before and after
CYCLE_WITHIN_S = 30.0
TOUCHED = ("api", "postgres", "redis")  # by a beat; worker and Temporal should not notice it
TEMPORAL = ("worker", "temporal")

Event = tuple[str, datetime]


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Register, wait until it is quiet, measure with and without beats."""
    node = await rig.node("fleet", TYPE, 1, lambda _: None)
    began = time.perf_counter()
    names = await _register(rig, plan.fleet_registered, node.port)
    took = time.perf_counter() - began
    await _add_rows(rig, names[0], plan.fleet_nodes - plan.fleet_registered)
    await _settled(rig)
    say(f"  {plan.fleet_registered} nodes registered in {took:.0f} s, quiet after {time.perf_counter() - began:.0f} s")
    if lost := plan.fleet_registered - len(names):
        say(f"  {lost} of them have no workflow")
    await rig.beats.stop()
    quiet = await _window(rig, plan.fleet_quiet_s)
    rig.beats.start()
    await asyncio.sleep(LOOK_S)
    before = await _lengths(rig.temporal, names)
    counted = len(rig.beats.took)
    beating = await _window(rig, plan.fleet_window_s)
    latencies = Samples.of(1000 * took for took in rig.beats.took[counted:])
    if rig.beats.failed:
        raise AssertionError(f"{len(rig.beats.failed)} beats were refused, the first: {rig.beats.failed[0]}")
    grown = [after - was for after, was in zip(await _lengths(rig.temporal, names), before, strict=True)]
    return [*_costs(quiet, beating, latencies, plan), await _history(rig, grown, plan)]


async def _register(rig: Rig, count: int, port: int) -> list[str]:
    """Register nodes at one address, since nothing is dispatched to them. Each beats from now on. Returns those whose
    workflow runs.

    Each client waits for the workflow of its last node: a thousand at once are more than one server can start.
    """
    remaining = iter([f"fleet-{number:04}" for number in range(count)])
    started: list[str] = []

    async def lane() -> None:
        for name in remaining:
            await rig.api.call("POST", "/gpus/register", registration(name, port, TYPE, 1))
            rig.beats.add(name)
            if await _has_workflow(rig.temporal, name):
                started.append(name)

    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return started


async def _add_rows(rig: Rig, like: str, count: int) -> None:
    """Make nodes as a registration leaves them in Postgres, without their workflows."""
    name = {"gpu_id": "'fleet-row-' || i"}
    for table in ("gpus", "gpu_beats"):
        template = await fill.one_row(rig.database, table, "gpu_id = %s", like)
        await fill.clone(rig.database, table, template, count, differ=name)
    for number in range(1, count + 1):
        rig.beats.add(f"fleet-row-{number}")


async def _has_workflow(client: Client, gpu_id: str) -> bool:
    async def exists() -> bool:
        try:
            await client.get_workflow_handle(f"gpu-{gpu_id}").describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    try:
        await eventually(exists, within=STARTED_S)
    except NotSoon:
        return False
    return True


async def _settled(rig: Rig) -> None:
    """Wait until every node's workflow has seen its registration."""

    async def idle() -> bool:
        used = await _window(rig, LOOK_S)
        return used.cpu["worker"] + used.cpu["temporal"] < SETTLED_SHARE * used.at

    await eventually(idle, within=180, step=0)


async def _window(rig: Rig, seconds: float) -> Usage:
    start = rig.meter.usage()
    await asyncio.sleep(seconds)
    return rig.meter.usage().since(start)


async def _lengths(client: Client, names: list[str]) -> list[int]:
    """History events of every n-th node."""
    sampled = names[:: max(1, len(names) // SAMPLED)]
    return [(await client.get_workflow_handle(f"gpu-{name}").describe()).history_length for name in sampled]


def _costs(quiet: Usage, beating: Usage, latencies: Samples, plan: Plan) -> list[Figure]:
    beats = latencies.n

    def per_beat(used: float, idle: float) -> float:
        return 1000 * (used - idle * beating.at / quiet.at) / beats

    def per_second(usage: Usage, *names: str) -> float:
        return 1000 * sum(usage.cpu[name] for name in names) / usage.at

    rows = plan.fleet_nodes - plan.fleet_registered
    without = f" ({rows} of them rows without a workflow)" if rows else ""
    note = (
        f"{beats} beats of {plan.fleet_nodes:,} nodes{without}, each every {BEAT_S:g} s, less what a quiet fleet uses;"
        f" all together {per_second(beating, *PRODUCT):.0f} ms of CPU per second, of it {TEMPORAL[0]} and {TEMPORAL[1]}"
        f" {per_second(beating, *TEMPORAL):.0f} ms ({per_second(quiet, *TEMPORAL):.0f} ms when no node beats)"
    )
    whole = sum(per_beat(beating.cpu[name], quiet.cpu[name]) for name in TOUCHED)
    return [
        Figure("CPU per beat", whole, "ms", n=beats, note=note),
        *(
            Figure(f"CPU per beat, {name}", per_beat(beating.cpu[name], quiet.cpu[name]), "ms", n=beats)
            for name in TOUCHED
        ),
        Figure("beat, p50", latencies.p50, "ms", n=beats),
        Figure("beat, p99", latencies.p99, "ms", n=beats),
    ]


async def _history(rig: Rig, grown: Sequence[int], plan: Plan) -> Figure:
    """Events of a node that has beaten since the start of the stack, over whole turns of its deadline timer."""
    handle = rig.temporal.get_workflow_handle(f"gpu-{rig.oldest_node}")
    history: list[Event] = []

    async def whole_turn() -> bool:
        events = (await handle.fetch_history()).events
        history[:] = [(EventType.Name(event.event_type), event.event_time.ToDatetime()) for event in events]
        return per_hour(history) is not None

    name = "history events per node and hour"
    try:
        await eventually(whole_turn, within=CYCLE_WITHIN_S, step=LOOK_S)
    except NotSoon:
        return not_run(name, "", "the run was shorter than one turn of a node's timer")
    note = (
        "over whole turns of the deadline timer of a node that beats; while all beat,"
        f" {len(grown)} histories grew by {sum(grown)} events in {plan.fleet_window_s:g} s"
    )
    return Figure(name, per_hour(history), "", target=at_most(200, Of.VALUE), note=note)


def per_hour(history: Sequence[Event]) -> float | None:
    """Events per hour between the workflow tasks that set the first timer and the last; None before there are two.

    Not from timer to timer: among a workflow task's decisions the timer may be the first event or the last.
    """
    decided, turns = 0, []
    for number, (kind, _) in enumerate(history):
        if kind == "EVENT_TYPE_WORKFLOW_TASK_COMPLETED":
            decided = number
        elif kind == "EVENT_TYPE_TIMER_STARTED":
            turns.append(decided)
    if len(turns) < 2:
        return None
    seconds = (history[turns[-1]][1] - history[turns[0]][1]).total_seconds()
    return 3600 * (turns[-1] - turns[0]) / seconds

"""Create → dispatch on an idle fleet, each sample against a bare workflow of the same moment."""

from __future__ import annotations

import asyncio

from tests.bench.figures import Figure, at_most
from tests.bench.node import Put, report
from tests.bench.plan import Plan
from tests.bench.rig import Rig
from tests.bench.stats import Samples

TYPE = 11
ANSWER_S = 20.0
HISTORIES = 30
WHOLE = "whole bare workflow (3 local activities, 1 signal)"


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Measure one task at a time, from sending POST /tasks until its PUT arrives at the node."""
    puts: asyncio.Queue[Put] = asyncio.Queue()
    await rig.node("latency", TYPE, 1, puts.put_nowait)
    await rig.bare.warm_up(plan.warm_up)
    for _ in range(plan.warm_up):
        await _one(rig, puts)
    tasks: list[str] = []
    ours, whole, single = [], [], []
    for _ in range(plan.latency_samples):
        latency, task_id = await _one(rig, puts)
        ours.append(latency)
        tasks.append(task_id)
        whole.append(1000 * await rig.bare.skeleton())
        single.append(1000 * await rig.bare.single())
    events = await rig.history_lengths(tasks[:HISTORIES])
    history = Figure("history events per task", events.mean, "", n=events.n, note="a task that goes well at once")
    return [*_figures(Samples.of(ours), Samples.of(whole), Samples.of(single), plan), history]


async def _one(rig: Rig, puts: asyncio.Queue[Put]) -> tuple[float, str]:
    """Milliseconds, and the task. Returns once the task has ended, so that it does not disturb the next one."""
    created = await rig.create(TYPE)
    put = await asyncio.wait_for(puts.get(), ANSWER_S)
    task_id = created.data["taskId"]
    if put.task_id != task_id:
        raise AssertionError(f"{put.task_id} was dispatched, {task_id} was created")
    await report(rig.api, put)
    await rig.completed(task_id)
    return 1000 * (put.arrived - created.sent), task_id


def _figures(ours: Samples, whole: Samples, single: Samples, plan: Plan) -> list[Figure]:
    note = f"POST /tasks sent until PUT received, one at a time, {plan.warm_up} before to warm up"
    p50 = Figure("create → dispatch, p50", ours.p50, "ms", whole.p50, WHOLE, at_most(0.8), ours.n, note)
    p99 = Figure("create → dispatch, p99", ours.p99, "ms", whole.p99, WHOLE, at_most(0.8), ours.n)
    least = Figure(
        "create → dispatch, p50, by a single step",
        ours.p50,
        "ms",
        single.p50,
        "bare workflow of 1 local activity",
        n=ours.n,
        note="for context: the least that a workflow can be",
    )
    return [p50, p99, least]

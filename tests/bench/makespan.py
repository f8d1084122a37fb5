"""A batch of mixed durations against the perfect schedule, which has no gap between two tasks."""

from __future__ import annotations

import asyncio
import random
import time

from tests.bench.figures import Figure, Of, at_least
from tests.bench.node import Put, report
from tests.bench.plan import Plan
from tests.bench.rig import Rig, eventually
from tests.bench.stats import list_schedule

TYPE = 13
NODES = 4
CREATORS = 8
SHORTEST_S, LONGEST_S = 0.3, 1.7
SEED = 3
LAST_ONES = 16


class Sleepers:
    """Nodes that work for as long as the task says."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._running: set[asyncio.Task[None]] = set()
        self.ends: list[float] = []  # when each result was accepted

    def on_put(self, put: Put) -> None:
        """Begin the work; the orchestrator is answered at once."""
        task = asyncio.create_task(self._work(put))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _work(self, put: Put) -> None:
        await asyncio.sleep(put.arrived + put.input["seconds"] - time.perf_counter())
        self.ends.append((await report(self._rig.api, put)).received)


def durations(count: int) -> list[float]:
    """Seconds of each task, the same in every run: mixed, with the shortest last. The system does not know them.

    A long task at the end would leave the other slots idle with any scheduler.
    """
    chance = random.Random(SEED)
    ascending = sorted(round(chance.uniform(SHORTEST_S, LONGEST_S), 3) for _ in range(count))
    mixed = ascending[LAST_ONES:]
    chance.shuffle(mixed)
    return mixed + ascending[:LAST_ONES][::-1]


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """The time from the first POST until the last result is accepted."""
    sleepers = Sleepers(rig)
    for number in range(NODES):
        await rig.node(f"batch-{number}", TYPE, plan.batch_slots // NODES, sleepers.on_put)
    batch = durations(plan.batch_tasks)
    start, began = rig.meter.usage(), time.perf_counter()
    await rig.create_many(TYPE, [{"seconds": seconds} for seconds in batch], at_once=CREATORS)

    async def done() -> bool:
        return len(sleepers.ends) == len(batch)

    await eventually(done, within=30 + 3 * sum(batch) / plan.batch_slots)
    makespan = max(sleepers.ends) - began
    used_cpu = rig.meter.usage().since(start)
    no_gaps = list_schedule(batch, plan.batch_slots)
    used = sum(batch) / plan.batch_slots
    return [
        Figure(
            "slot utilisation of a mixed batch",
            used / makespan,
            "",
            used / no_gaps,
            "the same order without gaps",
            at_least(0.95, Of.VALUE),
            n=len(batch),
            note=f"{len(batch)} tasks of {SHORTEST_S}-{LONGEST_S} s on {plan.batch_slots} slots, durations unknown to"
            " the system; 1 = every slot works until the last task ends",
        ),
        Figure("makespan of the mixed batch", makespan, "s", used, "perfect schedule (work over slots)", n=len(batch)),
        Figure(
            "CPU per task of the mixed batch",
            1000 * used_cpu.product / len(batch),
            "ms",
            n=len(batch),
            note="whole product, with what it uses when idle; some of these tasks end within their dispatch",
        ),
    ]

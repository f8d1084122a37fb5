"""Waiting tasks: how fast they come behind a full fleet, and what the machine spends while they wait."""

from __future__ import annotations

import asyncio
import statistics
import time

from tests.bench.figures import Figure, at_least, at_most
from tests.bench.meter import PRODUCT
from tests.bench.plan import Plan
from tests.bench.queue import Slot
from tests.bench.rig import DEADLINE_MS, Rig, eventually, say

TYPE = 18
BATCH, CREATORS, ROUNDS = 1000, 8, 3
TASK = {"taskType": TYPE, "userId": "bench", "app": "bench", "payload": "{}", "timeout": DEADLINE_MS}
NOT_STARTED = "task_id IN (SELECT task_id FROM outbox)"
NOT_PROMOTED = "queue_class = 0 AND waiting_since IS NOT NULL"
STARTS_PER_S = 20  # far below what any machine does
SETTLE_S = 15.0


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Measure on one node whose one slot is held."""
    slot = Slot(rig, TYPE)
    await rig.node("waiting", TYPE, 1, slot.puts.put_nowait)
    await rig.bare.burst(2 * plan.slots, plan.slots)
    await slot.occupy()
    await asyncio.sleep(SETTLE_S)
    without = await _cpu_a_minute(rig, plan)
    created, bare = [], []
    for _ in range(ROUNDS):
        bare.append(await rig.bare.burst(plan.burst_tasks, plan.slots))
        began = time.perf_counter()
        await rig.create_many(TYPE, [{}] * plan.burst_tasks, at_once=CREATORS)
        created.append(plan.burst_tasks / (time.perf_counter() - began))
        say(f"  {created[-1]:.1f} creations/s, {bare[-1]:.1f} bare workflows/s")
    waiting = await _wait_for_long(rig, plan)
    spent = await _cpu_a_minute(rig, plan)
    note = f"all processes over {plan.waiting_window_s:g} s; each task has its workflow and has been promoted"
    return [
        Figure("creations behind a full fleet", statistics.median(created), "1/s", statistics.median(bare),
               "bare workflow", at_least(2), ROUNDS, f"{CREATORS} clients, in turn"),
        Figure(f"CPU of the idle stack, {waiting:,} waiting", spent, "s/min", without, "none waiting",
               at_most(1.2), 1, note),
    ]  # fmt: skip


async def _wait_for_long(rig: Rig, plan: Plan) -> int:
    """Let many tasks wait until they are all promoted. Returns their number."""
    for _ in range(plan.waiting_tasks // BATCH):
        await rig.api.call("POST", "/tasks/batch", {"tasks": [TASK] * BATCH})

    async def none(condition: str) -> bool:
        return await rig.count(condition) == 0

    within = 60 + plan.waiting_tasks / STARTS_PER_S
    await eventually(lambda: none(NOT_STARTED), within=within, step=1.0)
    await rig.database.execute(f"UPDATE tasks SET waiting_since = waiting_since - interval '1 d' WHERE {NOT_PROMOTED}")
    await eventually(lambda: none(NOT_PROMOTED), within=within, step=1.0)
    await rig.database.execute("VACUUM (ANALYZE) tasks")  # as autovacuum would do
    await asyncio.sleep(SETTLE_S)
    return await rig.count("waiting_since IS NOT NULL")


async def _cpu_a_minute(rig: Rig, plan: Plan) -> float:
    """CPU seconds a minute of all processes of the product."""
    start = rig.meter.usage()
    await asyncio.sleep(plan.waiting_window_s)
    window = rig.meter.usage().since(start)
    by_process = {name: 60 * seconds / window.at for name, seconds in window.cpu.items()}
    say("  CPU s/min: " + ", ".join(f"{name} {by_process[name]:.2f}" for name in PRODUCT if name in by_process))
    return 60 * window.product / window.at

"""A busy slot with a hundred and with ten thousand tasks waiting: the gap, the assignment, and the cost of waiting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.bench import fill
from tests.bench.figures import Figure, Target, at_most
from tests.bench.node import Put, report
from tests.bench.plan import Plan
from tests.bench.rig import Rig, eventually, say
from tests.bench.stats import Samples

TYPE = 14
APPS = 50
CREATORS = 4
WORK_S = 0.1  # how long the slot works on each task; the collection of the task before is over by then
ANSWER_S = 30.0
READS = 30
SETTLE_S = 2.0
RESIDENT = ("worker", "api")
WAITS = """
    task_type = %s AND waiting_since IS NOT NULL AND NOT EXISTS (SELECT FROM outbox o WHERE o.task_id = tasks.task_id)
"""  # and its workflow is started
LAST = f"task_id = (SELECT task_id FROM tasks WHERE {WAITS} ORDER BY display_id DESC LIMIT 1)"


@dataclass(frozen=True)
class Depth:
    """Measurements with a given number of tasks waiting; milliseconds."""

    gap: Samples  # result accepted → next dispatch received
    assignment: Samples  # POST of the result
    bare: Samples
    create: Samples  # POST /tasks
    position: Samples  # GET /tasks/{id}/progress of the last in the queue


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Measure on one node with one slot. A new task for each dispatch keeps the queue's length."""
    slot = Slot(rig, TYPE)
    await rig.node("queue", TYPE, 1, slot.puts.put_nowait)
    await rig.bare.warm_up(plan.warm_up)
    await slot.warm_up(plan.warm_up)
    empty = {name: rig.meter.rss_mib(name) for name in RESIDENT}
    await slot.occupy()
    created, last = await _create(rig, plan.shallow)
    shallow = await _at_depth(rig, slot, plan, created, last)
    say(f"  gap p50 {shallow.gap.p50:.1f} ms at {plan.shallow}; filling up to {plan.deep}")
    await _deepen(rig, plan)
    created, last = await _create(rig, plan.created_at_depth)
    resident = {name: rig.meter.rss_mib(name) for name in RESIDENT}
    real = plan.deep if plan.deep_tasks_are_real else plan.shallow + plan.created_at_depth
    deep = await _at_depth(rig, slot, plan, created, last)
    return [*_gap(shallow, plan), *_growth(shallow, deep, plan), *_memory(empty, resident, real, plan)]


class Slot:
    """The one slot: it holds a dispatch until `turn` reports it."""

    def __init__(self, rig: Rig, task_type: int) -> None:
        self._type = task_type
        self.puts: asyncio.Queue[Put] = asyncio.Queue()
        self._rig = rig
        self._held: Put | None = None

    async def warm_up(self, count: int) -> None:
        """Serve tasks one by one, without measuring."""
        for _ in range(count):
            created = await self._rig.create(self._type)
            await report(self._rig.api, await self._next())
            await self._rig.completed(created.data["taskId"])

    async def occupy(self) -> None:
        """Begin a task and hold it."""
        await self._rig.create(self._type)
        self._held = await self._next()

    async def turn(self) -> tuple[float, float]:
        """Report the held task and hold the next. Returns (gap, time of the report), both in ms."""
        assert self._held is not None
        accepted = await report(self._rig.api, self._held)
        self._held = await self._next()
        return 1000 * (self._held.arrived - accepted.received), 1000 * accepted.took

    async def _next(self) -> Put:
        return await asyncio.wait_for(self.puts.get(), ANSWER_S)


async def _create(rig: Rig, count: int) -> tuple[Samples, str]:
    """Create tasks and wait until all of them wait for a slot. Returns the ms of each POST, and the last one's id."""
    goal = await rig.count(WAITS, TYPE) + count
    replies = await rig.create_many(TYPE, [{}] * count, at_once=CREATORS)

    async def waiting() -> bool:
        return await rig.count(WAITS, TYPE) >= goal

    await eventually(waiting, within=60 + count / 5)
    return Samples.of(1000 * reply.took for reply in replies), replies[-1].data["taskId"]


async def _at_depth(rig: Rig, slot: Slot, plan: Plan, created: Samples, last: str) -> Depth:
    positions = [1000 * (await rig.api.call("GET", f"/tasks/{last}/progress")).took for _ in range(READS)]
    gaps, reports, bare = [], [], []
    for _ in range(plan.gap_samples):
        await asyncio.sleep(WORK_S)
        bare.append(1000 * await rig.bare.skeleton())
        gap, took = await slot.turn()
        gaps.append(gap)
        reports.append(took)
        await rig.create(TYPE)
    return Depth(Samples.of(gaps), Samples.of(reports), Samples.of(bare), created, Samples.of(positions))


async def _deepen(rig: Rig, plan: Plan) -> None:
    """Bring the queue to its depth, by real tasks, or by rows behind them that are never granted a slot."""
    missing = plan.deep - plan.shallow - plan.created_at_depth
    if plan.deep_tasks_are_real:
        await rig.create_many(TYPE, [{}] * missing, at_once=2 * CREATORS, apps=APPS)

        async def waiting() -> bool:
            return await rig.count(WAITS, TYPE) >= plan.shallow + missing

        await eventually(waiting, within=600)
    else:
        template = await fill.one_row(rig.database, "tasks", LAST, TYPE)
        await fill.clone(rig.database, "tasks", template, missing, differ={"task_id": "'bench_waiting_' || i"})
    await fill.vacuum(rig.database, "tasks")
    await asyncio.sleep(SETTLE_S)


def _gap(shallow: Depth, plan: Plan) -> list[Figure]:
    note = f"result answered 200 until the next PUT received, {plan.shallow} waiting, each task works {WORK_S:g} s"
    against = "whole bare workflow"
    gap, bare = shallow.gap, shallow.bare
    return [
        Figure("idle gap of a busy slot, p50", gap.p50, "ms", bare.p50, against, at_most(0.4), gap.n, note),
        Figure("idle gap of a busy slot, p99", gap.p99, "ms", bare.p99, against, n=gap.n),
    ]


def _growth(shallow: Depth, deep: Depth, plan: Plan) -> list[Figure]:
    rows = "real tasks" if plan.deep_tasks_are_real else "rows, those in front are real tasks"
    against = f"at {plan.shallow}"

    def grown(name: str, now: Samples, then: Samples, target: Target | None, note: str = "") -> Figure:
        return Figure(f"{name} at {plan.deep:,} waiting, p50", now.p50, "ms", then.p50, against, target, now.n, note)

    note = f"POST of a result: settles, claims for the next task, commits; {rows}"
    drift = f"a bare workflow took {shallow.bare.p50:.1f} ms then, {deep.bare.p50:.1f} ms now"
    return [
        grown("assignment", deep.assignment, shallow.assignment, at_most(1.5), note),
        grown("idle gap", deep.gap, shallow.gap, at_most(1.5), drift),
        grown("POST /tasks", deep.create, shallow.create, None, f"{CREATORS} clients at once"),
        grown("queue position (progress)", deep.position, shallow.position, None, "of the last task in the queue"),
    ]


def _memory(empty: dict[str, float], resident: dict[str, float], real: int, plan: Plan) -> list[Figure]:
    behind = "" if plan.deep_tasks_are_real else f" and {plan.deep - real:,} rows without a workflow"
    note = f"{real:,} real tasks wait{behind}"
    return [
        Figure(
            f"memory of the {name}, {plan.deep:,} waiting",
            resident[name],
            "MiB",
            empty[name],
            "none waiting",
            note=note,
        )
        for name in RESIDENT
    ]

"""Rounds in which as many tasks age as come: the database levels off, and nobody waits for what is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from temporalio.client import ScheduleHandle, ScheduleOverlapPolicy

from infra.temporal.schedules import RETENTION
from tests.bench import fill
from tests.bench.figures import Figure, at_most
from tests.bench.node import Put, report
from tests.bench.plan import Plan
from tests.bench.rig import Rig, eventually, say
from tests.bench.stats import Samples

TYPE = 41
TABLES = ("tasks", "attempts", "task_results", "task_events")
SIZE = (
    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)
LARGEST = """
    SELECT string_agg(relname || ' ' || size / 1048576, ', ' ORDER BY size DESC)
      FROM (SELECT relname, pg_total_relation_size(oid) AS size FROM pg_class
             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT 4) largest
    """
LEFT = "SELECT EXISTS (SELECT FROM {} WHERE task_id LIKE 'aged_%')"
AGED = {
    "task_id": "'aged_%d_' || i",
    "created_at": "now() - interval '31 d'",
    "started_at": "now() - interval '31 d'",
    "completed_at": "now() - interval '31 d'",
    "gpu_id": "NULL",  # triggers count by node what moves to one, and this begins there
}
AGED_LOG = "UPDATE event_log SET at = now() - interval '31 d'"  # it is cut in its order, as far as all are old
AGED_OWN = "UPDATE tasks SET completed_at = now() - interval '31 d' WHERE completed_at IS NOT NULL AND task_id <> %s"
"""Ages the tasks that the callers have created since the last round, but not the one that they read."""
TOKEN = {"token": "'aged_%d_' || i"}
FORGOTTEN_S = 3_600.0
PAUSE_S = 0.02
"""Between two calls of each caller."""


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Fill and forget, round after round. Calls are measured while there is something to forget and, before each round,
    while nothing is old: the callers create tasks too, so calls slow down with time, and both samples must cover the
    same hour."""
    puts: asyncio.Queue[Put] = asyncio.Queue()
    node = await rig.node("ageing", TYPE, 1, puts.put_nowait)
    task_id = await _finish_one(rig, puts)
    rows = {table: await _rows(rig, table, task_id) for table in TABLES}
    callers = _callers(rig, puts, node.gpu_id, task_id)
    quiet: dict[str, list[float]] = {name: [] for name in callers}
    busy: dict[str, list[float]] = {name: [] for name in callers}
    sizes, took = [], []
    for number in range(plan.ageing_rounds):
        await _sample(callers, lambda: asyncio.sleep(plan.ageing_quiet_s), quiet)
        await rig.database.execute(AGED_OWN, (task_id,))
        await _age(rig, rows, number, plan.aged_tasks)
        began = time.perf_counter()
        await _sample(callers, lambda: _forgotten(rig), busy)
        took.append(time.perf_counter() - began)
        await fill.vacuum(rig.database, *TABLES, "event_log", "counters", "counter_deltas")
        sizes.append(int(await _read(rig, SIZE)))
        size, largest = sizes[-1] / 2**20, await _read(rig, LARGEST)
        say(f"  round {number + 1}: forgotten in {took[-1]:.0f} s, {size:.0f} MiB ({largest})")
    return [
        Figure("size of the database after the last round", sizes[-1] / 2**20, "MiB", sizes[1] / 2**20,
               "after the second round", at_most(1.1), len(sizes), f"rounds of {plan.aged_tasks:,} tasks"),
        Figure("tasks forgotten", plan.aged_tasks / max(took), "/s", n=len(took), note="the slowest round"),
        *(_figure(name, quiet[name], busy[name]) for name in quiet),
    ]  # fmt: skip


def _figure(name: str, quiet: list[float], busy: list[float]) -> Figure:
    taken = Samples.of(busy)
    return Figure(
        f"{name}, p99 while tasks are forgotten", taken.p99, "ms", Samples.of(quiet).p99, "while nothing is old",
        at_most(1.2), taken.n,
    )  # fmt: skip


async def _finish_one(rig: Rig, puts: asyncio.Queue[Put]) -> str:
    task_id: str = (await rig.create(TYPE)).data["taskId"]
    await report(rig.api, await puts.get())
    await rig.completed(task_id)
    return task_id


async def _rows(rig: Rig, table: str, task_id: str) -> list[str]:
    """A finished task's rows of a table, as JSON."""
    found = await rig.database.execute(f"SELECT row_to_json(r)::text FROM {table} r WHERE task_id = %s", (task_id,))
    return [str(row[0]) for row in await found.fetchall()]


async def _age(rig: Rig, rows: dict[str, list[str]], number: int, count: int) -> None:
    """Create as many tasks as came and ended 31 days ago, with all that is theirs."""
    own = {name: expression % number if "%d" in expression else expression for name, expression in AGED.items()}
    for table, templates in rows.items():
        differ = own if table == "tasks" else {"task_id": own["task_id"]}
        if table == "attempts":
            differ |= {"token": TOKEN["token"] % number}
        if table == "task_events":
            differ |= {"at": AGED["completed_at"]}  # a trigger writes each to the event log too
        for template in templates:
            await fill.clone(rig.database, table, template, count, differ=differ)
    await rig.database.execute(AGED_LOG)
    await fill.vacuum(rig.database, *TABLES, "event_log")
    await rig.database.execute("CHECKPOINT")  # in production a month goes by between these writes and the calls


async def _forgotten(rig: Rig) -> None:
    """Let the retention run until nothing aged is left. To look at the tables reads every dead row, so it is done only
    after a run."""
    async with asyncio.timeout(FORGOTTEN_S):
        while await _is_any_left(rig):
            await _run_retention(rig.temporal.get_schedule_handle(RETENTION))


async def _run_retention(schedule: ScheduleHandle) -> None:
    begun = (await schedule.describe()).info.num_actions
    await schedule.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)

    async def is_over() -> bool:
        info = (await schedule.describe()).info
        return info.num_actions > begun and not info.running_actions

    await eventually(is_over, within=FORGOTTEN_S, step=1.0)


async def _is_any_left(rig: Rig) -> bool:
    left = [await rig.database.execute(LEFT.format(table)) for table in ("tasks", "event_log")]
    return [await one.fetchone() for one in left] != [(False,), (False,)]


async def _read(rig: Rig, query: str) -> str:
    row = await (await rig.database.execute(query)).fetchone()
    assert row is not None
    return str(row[0])


def _callers(
    rig: Rig, puts: asyncio.Queue[Put], gpu_id: str, task_id: str
) -> dict[str, Callable[[], Awaitable[float]]]:
    async def read(path: str) -> float:
        return (await rig.api.call("GET", path)).took

    async def run_one() -> float:
        began = time.perf_counter()
        await _finish_one(rig, puts)
        return time.perf_counter() - began

    async def beat() -> float:
        return (await rig.api.call("POST", f"/gpus/{gpu_id}/heartbeat")).took

    return {
        "GET /tasks": lambda: read("/tasks"),
        "GET /tasks/{id}": lambda: read(f"/tasks/{task_id}"),
        "GET /monitoring/metrics": lambda: read("/monitoring/metrics"),
        "a beat": beat,
        "a task, from its creation to its end": run_one,
    }


async def _sample(
    callers: dict[str, Callable[[], Awaitable[float]]],
    until: Callable[[], Awaitable[None]],
    taken: dict[str, list[float]],
) -> None:
    """Add the milliseconds that each call took, until something has ended."""
    over = asyncio.Event()

    async def go_on(name: str) -> None:
        while not over.is_set():
            taken[name].append(1000 * await callers[name]())
            await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        for name in callers:
            group.create_task(go_on(name))
        await until()
        over.set()

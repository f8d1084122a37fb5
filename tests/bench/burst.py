"""A burst over twenty slots: throughput against bare workflows and DBOS, and what one task costs each process."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from infra.data_dir.embedded import DATABASE
from tests.bench.companion import Companion
from tests.bench.figures import Figure, at_least, not_run
from tests.bench.meter import OURSELVES, PRODUCT, Usage, commits
from tests.bench.node import Put, report, say_processing
from tests.bench.plan import Plan
from tests.bench.rig import Rig, eventually, say
from tests.bench.stats import Samples

TYPE = 12
ACCEPTED_TYPE = 17  # of nodes that answer every dispatch with 202
NODES = 5
CREATORS = 8  # clients that create at once
STATISTICS_LAG_S = 11.0  # Postgres' backends report their transactions at most 10 s later
IDLE_S = 4.0
HISTORIES = 50


@dataclass(frozen=True)
class Round:
    """Two bursts of ours, one of bare workflows and one of DBOS, in turn; `dbos` may be why there is none."""

    per_s: float
    accepted_per_s: float  # ours, of nodes that answer 202 and report
    ended: float  # ours, by time.perf_counter
    usage: Usage
    bare_per_s: float
    bare_usage: Usage
    dbos: float | str  # per second
    task_ids: list[str]


@dataclass(frozen=True)
class Traffic:
    """Transactions: counted during the bursts, and per second while idle."""

    counted: int
    over_s: float
    idle_per_s: float


class AtOnce:
    """Nodes whose work takes no time: each dispatch is reported, or answered, as soon as it has arrived."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._running: set[asyncio.Task[None]] = set()
        self.accepted = 0

    def on_put(self, put: Put) -> None:
        """Report it without making the orchestrator wait."""
        task = asyncio.create_task(self._finish(put))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def on_held(self, put: Put) -> dict[str, Any]:
        """Do what our agent does before it answers."""
        await say_processing(self._rig.api, put)
        self.accepted += 1
        return {"ok": True}

    async def _finish(self, put: Put) -> None:
        await report(self._rig.api, put)
        self.accepted += 1


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Measure rounds of ours and the references in turn: the speed of a shared machine changes from minute to
    minute."""
    work = AtOnce(rig)
    for number in range(NODES):
        await rig.node(f"burst-{number}", TYPE, plan.slots // NODES, work.on_put, work.on_held)
        await rig.node(f"burst-202-{number}", ACCEPTED_TYPE, plan.slots // NODES, work.on_put)
    for task_type in (TYPE, ACCEPTED_TYPE):
        await burst(rig, work, task_type, 2 * plan.slots)
    await rig.bare.burst(2 * plan.slots, plan.slots)
    url = rig.stack.services.database_url.replace("postgresql+psycopg", "postgresql")
    async with Companion("tests.bench.dbos_peer", url.replace(f"/{DATABASE}?", "/dbos_peer?")) as peer:
        before, began = await commits(rig.statistics, DATABASE), time.perf_counter()
        rounds = [await _round(rig, work, peer, plan) for _ in range(plan.burst_rounds)]
    await asyncio.sleep(max(0.0, rounds[-1].ended + STATISTICS_LAG_S - time.perf_counter()))
    counted, over = await commits(rig.statistics, DATABASE) - before, time.perf_counter() - began
    await asyncio.sleep(IDLE_S)
    idle = (await commits(rig.statistics, DATABASE) - before - counted) / IDLE_S
    events = await rig.history_lengths(rounds[-1].task_ids[:HISTORIES])
    return [*_throughput(rounds, plan), *_costs(rounds, Traffic(counted, over, idle), events, plan)]


async def _round(rig: Rig, work: AtOnce, peer: Companion, plan: Plan) -> Round:
    start = rig.meter.usage()
    per_s, task_ids = await burst(rig, work, TYPE, plan.burst_tasks)
    middle, ended = rig.meter.usage(), time.perf_counter()
    bare_per_s = await rig.bare.burst(plan.burst_tasks, plan.slots)
    end = rig.meter.usage()
    accepted_per_s, _ = await burst(rig, work, ACCEPTED_TYPE, plan.burst_tasks)
    dbos = await _dbos(peer, plan)
    beside = f"DBOS {dbos:.1f}/s" if isinstance(dbos, float) else "no DBOS"
    say(f"  {per_s:.1f}/s, by 202 {accepted_per_s:.1f}/s, bare {bare_per_s:.1f}/s, {beside}")
    return Round(per_s, accepted_per_s, ended, middle.since(start), bare_per_s, end.since(middle), dbos, task_ids)


async def burst(rig: Rig, work: AtOnce, task_type: int, count: int) -> tuple[float, list[str]]:
    """Tasks per second from the first POST until the last task is COMPLETED, by the database's clock."""
    app = f"burst-{uuid4().hex[:8]}"
    goal = work.accepted + count
    began = time.time()
    replies = await rig.create_many(task_type, [{}] * count, at_once=CREATORS, app=app)

    async def reported() -> bool:
        return work.accepted >= goal

    async def completed() -> bool:
        return await rig.count("app = %s AND status = 'COMPLETED'", app) == count

    await eventually(reported, within=60 + count / 2)
    await eventually(completed, within=20)
    found = await rig.database.execute("SELECT extract(epoch FROM max(completed_at)) FROM tasks WHERE app = %s", (app,))
    row = await found.fetchone()
    assert row is not None
    return count / (float(str(row[0])) - began), [reply.data["taskId"] for reply in replies]


async def _dbos(peer: Companion, plan: Plan) -> float | str:
    """Workflows per second, or why there is no such figure."""
    answer = await peer.ask(count=plan.burst_tasks, at_once=plan.slots)
    return str(answer["error"]) if "error" in answer else float(answer["per_s"])


def _throughput(rounds: list[Round], plan: Plan) -> list[Figure]:
    ours = statistics.median(one.per_s for one in rounds)
    bare = statistics.median(one.bare_per_s for one in rounds)
    note = (
        f"median of {len(rounds)} bursts of {plan.burst_tasks}, {plan.slots} slots, work of no duration;"
        f" the bare workflow with {plan.slots} at once, in turn with ours"
    )
    against_bare = Figure(
        "burst throughput", ours, "/s", bare, "bare workflow", at_least(0.8), n=len(rounds), note=note
    )
    accepted = Figure(
        "burst throughput, nodes that answer 202",
        statistics.median(one.accepted_per_s for one in rounds),
        "/s",
        bare,
        "bare workflow",
        at_least(0.55),
        n=len(rounds),
        note="the same, where each result is reported",
    )
    name = "burst throughput, by DBOS"
    if reasons := [one.dbos for one in rounds if isinstance(one.dbos, str)]:
        return [against_bare, accepted, not_run(name, "/s", f"DBOS: {reasons[0]}")]
    dbos = statistics.median(float(one.dbos) for one in rounds)
    note = (
        "three steps and one message each, on the same Postgres, its defaults, without API, nodes and queue;"
        " in turn with ours"
    )
    return [against_bare, accepted, Figure(name, ours, "/s", dbos, "DBOS", at_least(1.0), n=len(rounds), note=note)]


def _costs(rounds: list[Round], traffic: Traffic, events: Samples, plan: Plan) -> list[Figure]:
    tasks = plan.burst_tasks * len(rounds)
    ours, bare = rounds[0].usage, rounds[0].bare_usage
    for one in rounds[1:]:
        ours, bare = ours.plus(one.usage), bare.plus(one.bare_usage)
    reference = {"temporal": bare.cpu["temporal"], "worker": bare.cpu["bare worker"]}
    figures = [
        Figure(
            f"CPU per task, {name}",
            1000 * ours.cpu[name] / tasks,
            "ms",
            1000 * reference[name] / tasks if name in reference else None,
            "per bare workflow" if name in reference else "",
            n=tasks,
        )
        for name in PRODUCT
    ]
    load = 1000 * ours.cpu[OURSELVES] / tasks
    figures.append(
        Figure(
            "CPU per task, whole product",
            1000 * ours.product / tasks,
            "ms",
            n=tasks,
            note="in the bursts: work of no duration, which ends within its dispatch; the bench's own clients and nodes"
            f" used {load:.1f} ms per task in addition",
        )
    )
    net = traffic.counted - traffic.idle_per_s * traffic.over_s
    figures.append(
        Figure(
            "transactions per task",
            net / (2 * tasks),
            "",
            n=2 * tasks,
            note=f"commits, with both kinds of nodes, less {traffic.idle_per_s:.1f}/s that are made when idle",
        )
    )
    figures.append(
        Figure(
            "history events per task of the burst", events.mean, "", n=events.n, note="most of them waited for a slot"
        )
    )
    return figures

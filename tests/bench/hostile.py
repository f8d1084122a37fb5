"""Honest calls under attack, compared with a quiet time before, for each kind of attack."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from infra.db.access import api_keys
from infra.db.access.api_keys import NewKey
from infra.db.access.audit import Actor
from infra.db.session import Database
from tests.bench.attacker import STRUCTURE
from tests.bench.companion import Companion
from tests.bench.figures import Figure, Of, at_most
from tests.bench.node import Put
from tests.bench.plan import Plan
from tests.bench.rig import Rig, say
from tests.bench.stats import Samples
from tests.bench.wire import Reply
from workflows.domain.role import Role

TYPE, UNSERVED = 17, 18
NODE = "honest"
PAUSE_S = 0.01  # between an honest caller's answer and its next call
SETTLE_S = 0.3  # from an attack's end to the next quiet time
ATTACKS = (
    "structure bodies",
    "structure results",
    "result reads",
    "readers that never read",
    "header floods",
    "one wrong key",
    "wrong keys",
    "greedy registrations",
    "a tenant and a node at once",
)
TEXT = json.dumps("x" * 10_000)
"""The size of honest payloads and results: large enough for the thread."""
LARGE, LARGE_TASKS = "x" * 250_000, 20
"""The payload of the attacker's tasks: each page of a list is as large as it may be."""
Call = Callable[[], Awaitable[Reply]]
TARGETS = {"p50": at_most(5), "p99": at_most(250, Of.VALUE)}  # a second has some hundred samples


async def measure(rig: Rig, plan: Plan) -> list[Figure]:
    """Each attack takes as long as the quiet time before it."""
    puts: asyncio.Queue[Put] = asyncio.Queue()
    await rig.node(NODE, TYPE, 1, puts.put_nowait)
    task_id = (await _succeed(rig, puts, STRUCTURE.decode())).task_id
    honest = _honest_calls(rig, await _succeed(rig, puts, TEXT))
    for _ in range(LARGE_TASKS):
        await rig.create(UNSERVED, text=LARGE)
    secrets = {role: await _key(rig, Role(role)) for role in ("user", "node")}
    figures: list[Figure] = []
    async with _attacker(rig) as attacker:
        for name in ATTACKS:
            quiet = await _honest(honest, plan.hostile_s)
            attack = asyncio.create_task(attacker.ask(attack=name, seconds=plan.hostile_s, keys=secrets, task=task_id))
            under = await _honest(honest, plan.hostile_s)
            counts = await attack
            say(f"  {name}: {counts}")
            figures += _figures(name, quiet, under, counts)
            await asyncio.sleep(SETTLE_S)
    return figures


async def _succeed(rig: Rig, puts: asyncio.Queue[Put], result: str) -> Put:
    """A task that has finished with a result."""
    await rig.create(TYPE)
    put = await puts.get()
    await rig.api.call("POST", f"/tasks/{put.task_id}/result", {"result": result}, token=put.token)
    await rig.completed(put.task_id)
    return put


def _honest_calls(rig: Rig, done: Put) -> dict[str, Call]:
    """Honest callers. Their creations and results are repeats, so that the queue does not change."""
    task = {"taskType": UNSERVED, "userId": "honest", "app": "bench", "payload": TEXT}
    api = rig.api
    return {
        "reads": lambda: api.call("GET", f"/gpus/{NODE}"),
        "beats": lambda: api.call("POST", f"/gpus/{NODE}/heartbeat"),
        "creations": lambda: api.call("POST", "/tasks", task, once="hostile"),
        "results": lambda: api.call("POST", f"/tasks/{done.task_id}/result", {"result": TEXT}, token=done.token),
    }


async def _key(rig: Rig, role: Role) -> str:
    database = Database(rig.stack.services.database_url, connections=2)
    try:
        made = await database.run(lambda c: api_keys.create(c, NewKey(role, "bench"), Actor(None, "bench", None)))
        return made.secret
    finally:
        await database.close()


@asynccontextmanager
async def _attacker(rig: Rig) -> AsyncIterator[Companion]:
    settings = rig.stack.settings
    async with Companion("tests.bench.attacker", settings.host, str(settings.port)) as attacker:
        yield attacker


async def _honest(calls: dict[str, Call], seconds: float) -> dict[str, Samples]:
    """The times of honest calls in ms, one after the other of each kind."""
    until = time.perf_counter() + seconds
    taken = await asyncio.gather(*(_lane(call, until) for call in calls.values()))
    return dict(zip(calls, taken, strict=True))


async def _lane(call: Call, until: float) -> Samples:
    took = []
    while time.perf_counter() < until:
        took.append(1000 * (await call()).took)
        await asyncio.sleep(PAUSE_S)
    return Samples.of(took)


def _figures(name: str, quiet: dict[str, Samples], under: dict[str, Samples], counts: dict[str, int]) -> list[Figure]:
    shown = ", ".join(f"{count} × {status}" for status, count in sorted(counts.items()))
    return [
        Figure(
            f"{kind} under {name}, {quantile}",
            getattr(under[kind], quantile),
            "ms",
            getattr(quiet[kind], quantile),
            "without",
            target,
            under[kind].n,
            note=f"the attack: {shown}" if (kind, quantile) == ("reads", "p50") else "",
        )
        for kind in quiet
        for quantile, target in TARGETS.items()
    ]

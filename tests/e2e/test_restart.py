"""The stack ends, in order or by kill -9, and starts again on the same data: nothing acknowledged is lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infra.settings import Settings
from tests.begun import begun
from tests.conftest import Api, MakeNode, callers, eventually, fleet, frontend
from tests.e2e.inside import select
from tests.fake_node import FakeNode, Put
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

AGENT = "gpu_001"  # a real one, which the stack starts and stops with itself
SLOW = 60.0  # s for what may have to wait for the reconciler


class Machine:
    """One data directory, and the stack that runs on it now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.stack = Stack(settings, nodes=1)

    async def begin(self) -> None:
        """Start a stack, as a new process would."""
        self.stack = Stack(self._settings, nodes=1)
        await self.stack.start()

    async def restart(self) -> None:
        """Restart in good order."""
        await self.stack.stop()
        await self.begin()

    async def lose_power(self) -> None:
        """kill -9 of everything at once."""
        self.stack.kill()
        await self.stack.stop()
        await self.begin()

    async def lose_postgres(self) -> None:
        """kill -9 of API, worker and Postgres; their supervisor starts them again."""
        await self._kill("api", "worker", "postgres")

    async def lose_temporal(self) -> None:
        """kill -9 of API, worker and the Temporal server."""
        await self._kill("api", "worker", "temporal")

    async def _kill(self, *names: str) -> None:
        parts = [self.stack.part(name) for name in names]
        for part in parts:
            part.kill()
        for part in parts:
            await part.until_ready(60)


@pytest.fixture(scope="module")
async def machine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    machine = Machine(stack_settings(begun(tmp_path_factory.mktemp("restart")), heartbeat_timeout=40))
    try:
        await machine.begin()
        yield machine
    finally:
        await machine.stack.stop()


@pytest.fixture(scope="module")
async def caller(machine: Machine) -> AsyncIterator[Api]:
    async with frontend(machine.stack) as api:
        yield api


@pytest.fixture
async def make_node(caller: Api) -> AsyncIterator[MakeNode]:
    async with fleet(caller) as make:
        yield make


@dataclass(frozen=True)
class Before:
    """The state before the end: task ids, and the dispatch of the one that runs."""

    ended: list[str]
    acknowledged: str  # its result was answered 200 a moment before
    running: Put
    waiting: list[str]  # the last one was created a moment before


async def lead_up(api: Api, node: FakeNode, task_type: int) -> Before:
    """Tasks in every state, on a node of two slots; the last calls are answered just before the end."""
    done = await api.create(task_type)
    await api.succeed(await node.next_put(), {"n": 1})
    await api.until(done, "COMPLETED")
    node.answer = (422, {"detail": "no"})
    rejected = await api.create(task_type)
    await api.until(rejected, "FAILED")
    await node.next_put()
    node.answer = (202, {"status": "starting"})

    await api.create(task_type)
    running = await node.next_put()
    await api.say(running, "PROCESSING", progress=40)
    acknowledged = await api.create(task_type)
    put = await node.next_put()
    waiting = await api.create(task_type)
    await api.until(acknowledged, "PROCESSING")
    await api.succeed(put, {"n": 2})
    return Before([done, rejected], acknowledged, running, [waiting, await api.create(task_type)])


async def kept(api: Api, stack: Stack, before: Before, name: str) -> dict[str, Any]:
    """The rows that must be the same before and after; the alerts are those of this test's own nodes."""
    return {
        "tasks": [await api.get(f"/tasks/{task_id}") for task_id in before.ended],
        "results": [await api.get(f"/tasks/{task_id}/result") for task_id in before.ended],
        "events": [await api.get(f"/tasks/{task_id}/events") for task_id in before.ended],
        "alerts": await api.alerts(f"{name}_broken"),
        "gpus": (await api.get("/monitoring/metrics"))["gpu_status_counts"],
        "total": (await api.get("/monitoring/overview"))["metrics"]["total_tasks"],
        "epochs": await epochs(stack),
        "drains": {one["gpuId"]: one["drain"] for one in await api.get("/gpus") if one["draining"]},
    }


async def epochs(stack: Stack) -> dict[str, int]:
    rows = await select(stack, "SELECT gpu_id, epoch FROM gpus WHERE gpu_id <> %s", AGENT)
    return {row["gpu_id"]: row["epoch"] for row in rows}


async def agent_epoch(stack: Stack) -> int:
    """0 before its first registration."""
    rows = await select(stack, "SELECT epoch FROM gpus WHERE gpu_id = %s", AGENT)
    return int(rows[0]["epoch"]) if rows else 0


async def raise_alerts(api: Api, make_node: MakeNode, name: str) -> None:
    """Two faulty nodes, one of whose alerts is acknowledged; the other one drains, too."""
    for number in (1, 2):
        gpu_id = f"{name}_broken_{number}"
        await make_node(gpu_id, [999])
        await api.post(f"/gpus/{gpu_id}/fault?reason=fan")
    alert, _ = [(await eventually(partial(api.alerts, f"{name}_broken_{n}")))[0] for n in (1, 2)]
    await api.post(f"/monitoring/alerts/{alert['id']}/acknowledge")
    await api.post(f"/gpus/{name}_broken_2/drain", {"reason": "fan", "deadline": 4102444800000})


async def finish(api: Api, node: FakeNode, task_ids: set[str]) -> None:
    """Be a node that does these tasks as they come; a repeated dispatch is nothing new to it."""
    while task_ids:
        put = await node.next_put(SLOW)
        if put.task_id in task_ids:
            await api.succeed(put, {"task": put.task_id})
            task_ids.discard(put.task_id)


async def render(api: Api, folder: Path) -> None:
    """A real tile by the real agent, in its folder."""
    target = folder / "tile.png"
    target.unlink(missing_ok=True)
    tile = {"output": str(target), "imageWidth": 16, "imageHeight": 16, "x": 0, "y": 0, "width": 16, "height": 16}
    task = await api.until(await api.create(3, json.dumps(tile)), "COMPLETED", within=SLOW)
    assert (task["gpuId"], task["retryCount"]) == (AGENT, 0)
    Image.open(target).verify()


@pytest.mark.parametrize(
    ("end", "agents_again", "task_type"),
    [("restart", 1, 107), ("lose_power", 1, 110), ("lose_postgres", 0, 113), ("lose_temporal", 0, 114)],
)
async def test_goes_on_where_it_was(machine, caller, make_node, end, agents_again, task_type):
    node = await make_node(f"{end}_node", [task_type], maxConcurrentTasks=2)
    await raise_alerts(caller, make_node, end)
    agent = await eventually(lambda: agent_epoch(machine.stack))
    before = await lead_up(caller, node, task_type)
    answers = await kept(caller, machine.stack, before, end)

    await getattr(machine, end)()

    assert await kept(caller, machine.stack, before, end) == answers
    running = await caller.get(f"/tasks/{before.running.task_id}")
    assert (running["status"], running["gpuId"]) == ("PROCESSING", node.gpu_id)
    assert (await caller.get(f"/tasks/{before.running.task_id}/progress"))["progress"] == 40
    await caller.until(before.acknowledged, "COMPLETED", within=SLOW)
    assert (await caller.get(f"/tasks/{before.acknowledged}/result"))["result"]["n"] == 2
    await caller.succeed(before.running, {"n": 3})
    await finish(caller, node, set(before.waiting))
    for task_id in (before.running.task_id, *before.waiting):
        task = await caller.until(task_id, "COMPLETED", within=SLOW)
        assert (task["gpuId"], task["retryCount"]) == (node.gpu_id, 0)

    await render(caller, machine.stack.data_dir.demo)
    assert await agent_epoch(machine.stack) == agent + agents_again


async def test_a_user_reaches_no_file_outside_the_demos_folder(machine: Machine, caller: Api) -> None:
    """The stack's own node has a node's key, for its own node only."""
    folder = machine.stack.data_dir.root
    (sample,) = folder.glob("demo/landscape.png")
    secret = folder / "secret.png"
    secret.write_bytes(sample.read_bytes())
    errors = set()
    tries = (  # three failures in a row would make the node FAULTY
        (secret, "new.png"),
        (folder / "none.png", "new.png"),
        ("landscape.png", "new.png"),
        ("landscape.png", secret),
    )
    async with callers(machine.stack) as make:
        user = await make("user", "user_001")
        for input, output in tries:
            payload = json.dumps({"input": str(input), "output": str(output), "style": "duotone"})
            task_id = await user.create(2, payload, maxRetries=0)
            errors.add((await user.until(task_id, "FAILED", "COMPLETED", within=SLOW))["errorMessage"])
    assert errors == {
        None,
        "ValueError: input: there is no such file in the demo's folder",
        "ValueError: output: there is no such place for a file in the demo's folder",
    }
    assert secret.read_bytes() == sample.read_bytes()
    assert (folder / "node_key").stat().st_mode & 0o777 == 0o600
    async with frontend(machine.stack, key=(folder / "node_key").read_text().strip()) as node:
        assert [gpu["gpuId"] for gpu in await node.get("/gpus")] == [AGENT]
        await node.ask("GET", "/audit", code=403)

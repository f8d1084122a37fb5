"""Real agents on the real stack, and what may befall them in the middle of a task."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Api, eventually
from tests.e2e.inside import select
from tests.e2e.node.agent import GATED, arguments, attempt_log, gate, launched, until_exists, work
from tests.stack_settings import GRACE_S

SLOW = 60.0


class Pair:
    """Two agents of one slot each that do the same work."""

    def __init__(self, api: Api, folder: Path, prefix: str) -> None:
        self.api = api
        self.names = [f"{prefix}_1", f"{prefix}_2"]
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._folder = folder
        self._stack = AsyncExitStack()

    async def start(self, gpu_id: str) -> None:
        """Start an agent, or start it again; it remembers what it did."""
        options = ["--slots", "1", "--state-dir", str(self.folder(gpu_id) / "state"), *work(GATED)]
        env = {"ORCHESTRATOR_NODE_KEY": self.api.key}
        agent = launched(self.folder(gpu_id), arguments(self.api.stack.api_url, gpu_id, *options), env)
        self.processes[gpu_id], _ = await self._stack.enter_async_context(agent)

    async def kill(self, gpu_id: str) -> None:
        self.processes[gpu_id].kill()
        await self.processes[gpu_id].wait()

    async def close(self) -> None:
        await self._stack.aclose()
        for gpu_id in self.names:
            await self.api.http.delete(f"/gpus/{gpu_id}")

    def folder(self, gpu_id: str) -> Path:
        folder = self._folder / gpu_id
        folder.mkdir(exist_ok=True)
        return folder

    def other(self, gpu_id: str) -> str:
        return next(name for name in self.names if name != gpu_id)

    async def epoch(self, gpu_id: str) -> int:
        return int((await select(self.api.stack, "SELECT epoch FROM gpus WHERE gpu_id = %s", gpu_id))[0]["epoch"])

    async def begin(self, name: str) -> tuple[str, str, Path]:
        """A task that runs until its file is touched: its id, the node that it runs on, the file."""
        input, here, go = gate(self._folder, name)
        task_id = await self.api.create(GATED, json.dumps(input))
        await until_exists(here)
        here.unlink()
        return task_id, (await self.api.until(task_id, "PROCESSING"))["gpuId"], go


@pytest.fixture
async def pair(api: Api, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    pair = Pair(api, tmp_path, request.node.name)
    try:
        for gpu_id in pair.names:
            await pair.start(gpu_id)
        yield pair
    finally:
        await pair.close()


async def test_its_task_finishes_on_the_other_node(api: Api, pair: Pair, tmp_path: Path) -> None:
    task_id, victim, go = await pair.begin("moved")
    heir, epoch = pair.other(victim), await pair.epoch(victim)
    await pair.kill(victim)
    await until_exists(tmp_path / "moved.here")  # it runs again
    go.touch()

    task = await api.until(task_id, "COMPLETED", within=SLOW)
    assert (task["gpuId"], task["retryCount"]) == (heir, 0)
    statuses = [event["to"] for event in await api.get(f"/tasks/{task_id}/events")]
    assert statuses == ["QUEUED", "PROCESSING", "QUEUED", "PROCESSING", "COMPLETED"]
    assert (await api.get(f"/gpus/{victim}"))["status"] == "OFFLINE"
    assert [(one["level"], one["title"]) for one in await api.alerts(victim)] == [("WARNING", "GPU离线告警")]

    await pair.start(victim)
    gpu = await api.gpu_until(victim, "ACTIVE")
    assert (gpu["currentTasks"], await pair.epoch(victim)) == (0, epoch + 1)
    begun = [await pair.begin(f"after_{number}") for number in range(2)]
    assert {gpu_id for _, gpu_id, _ in begun} == {victim, heir}
    for other_task, _, file in begun:
        file.touch()
        await api.until(other_task, "COMPLETED", within=SLOW)

    async def late_reports() -> list[dict[str, Any]]:
        return await select(api.stack, "SELECT attempt, kind FROM late_reports WHERE task_id = %s", task_id)

    assert await eventually(late_reports) == [{"attempt": 1, "kind": "QUEUED"}]  # that it was restarted
    assert await api.get(f"/tasks/{task_id}") == task
    assert events_of(pair, victim, task_id) == ["accepted", "started", "canceled"]
    assert events_of(pair, heir, task_id) == ["accepted", "started", "succeeded"]


def events_of(pair: Pair, gpu_id: str, task_id: str) -> list[str]:
    return [line["event"] for line in attempt_log(pair.folder(gpu_id)) if line["taskId"] == task_id]


async def keep_beating(api: Api, gpu_id: str) -> None:
    while True:
        await api.post(f"/gpus/{gpu_id}/heartbeat")
        await asyncio.sleep(GRACE_S / 6)


async def test_started_again_within_its_grace_it_gives_its_task_back(api: Api, pair: Pair, tmp_path: Path) -> None:
    task_id, victim, go = await pair.begin("given_back")
    await pair.kill(victim)
    in_time = asyncio.create_task(keep_beating(api, victim))  # a start may take a busy machine longer than the grace
    try:
        await pair.start(victim)
        await until_exists(tmp_path / "given_back.here")
    finally:
        in_time.cancel()
    go.touch()
    task = await api.until(task_id, "COMPLETED", within=SLOW)
    assert task["retryCount"] == 0
    assert (await api.get(f"/gpus/{victim}"))["status"] == "ACTIVE"
    assert await api.alerts(victim) == []


async def test_paused_past_its_grace_it_reports_too_late_and_is_back(api: Api, pair: Pair, tmp_path: Path) -> None:
    task_id, victim, go = await pair.begin("overtaken")
    heir = pair.other(victim)
    pair.processes[victim].send_signal(signal.SIGSTOP)
    await until_exists(tmp_path / "overtaken.here")
    go.touch()  # both may end now; the paused one's child does, and its agent reports it once it goes on
    task = await api.until(task_id, "COMPLETED", within=SLOW)
    assert (task["gpuId"], task["retryCount"]) == (heir, 0)
    assert (await api.get(f"/gpus/{victim}"))["status"] == "OFFLINE"

    pair.processes[victim].send_signal(signal.SIGCONT)
    gpu = await api.gpu_until(victim, "ACTIVE")
    assert gpu["currentTasks"] == 0

    async def late_reports() -> list[dict[str, Any]]:
        return await select(
            api.stack, "SELECT attempt FROM late_reports WHERE task_id = %s AND kind = 'result'", task_id
        )

    assert await eventually(late_reports) == [{"attempt": 1}]
    assert await api.get(f"/tasks/{task_id}") == task

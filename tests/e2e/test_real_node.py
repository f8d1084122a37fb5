"""The real agent on the real stack: what a deadline and a shutdown make of its work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import Api, eventually

DEADLINE = 20.0  # s that a test waits for the agent
WORK = """
echo $$ >> pids
while [ ! -e go ]; do sleep 0.02; done
echo '{"done": true}'
"""


@asynccontextmanager
async def agent(
    api: Api, folder: Path, gpu_id: str, task_type: int, *, comes_back: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A ready agent with one slot, killed in the end if it did not exit by itself."""
    (folder / "work.sh").write_text(WORK)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.cli", "node", "--api", api.stack.api_url, "--gpu-id", gpu_id),
        *("--slots", "1", "--drain-timeout", "0.1", "--heartbeat-interval", "0.5", "--state-dir", "state"),
        *("--command", f"{task_type}=sh work.sh"),
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "ORCHESTRATOR_NODE_KEY": api.key, "PYTHONPATH": str(Path.cwd())},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            assert await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        if not comes_back:
            await api.http.delete(f"/gpus/{gpu_id}")


async def working(folder: Path, runs: int = 1) -> int:
    """The pid of the work, once it has been started a number of times."""

    async def started() -> list[str] | None:
        pids = (folder / "pids").read_text().split() if (folder / "pids").exists() else []
        return pids if len(pids) == runs else None

    return int((await eventually(started))[-1])


async def until_dead(pid: int) -> None:
    async def dead() -> bool:
        return not psutil.pid_exists(pid)

    await eventually(dead)


async def test_work_that_takes_too_long_ends_timeout_and_is_killed(api: Api, tmp_path: Path) -> None:
    async with agent(api, tmp_path, "real_slow", 120):
        task_id = await api.create(120, timeout=1000, maxRetries=0)
        pid = await working(tmp_path)
        task = await api.until(task_id, "TIMEOUT", "FAILED")
        assert (task["status"], task["errorMessage"]) == ("TIMEOUT", "任务执行超时（时限1000毫秒对该类型任务过短）")
        await until_dead(pid)


async def test_it_ends_timeout_even_where_the_node_is_first(api: Api, tmp_path: Path) -> None:
    worker = api.stack.part("worker")
    async with agent(api, tmp_path, "real_first", 121):
        task_id = await api.create(121, timeout=1000, maxRetries=0)
        pid = await working(tmp_path)
        await api.until(task_id, "PROCESSING")
        worker.kill(signal.SIGSTOP)
        try:
            await until_dead(pid)
            assert (await api.get(f"/tasks/{task_id}"))["status"] == "PROCESSING"
        finally:
            worker.kill(signal.SIGCONT)
        task = await api.until(task_id, "TIMEOUT", "FAILED")
        assert (task["status"], task["errorMessage"]) == ("TIMEOUT", "任务执行超时（时限1000毫秒对该类型任务过短）")


async def test_a_shutdown_hands_work_back_and_the_next_run_takes_it_up(api: Api, tmp_path: Path) -> None:
    task_id = await api.create(122, maxRetries=0)
    async with agent(api, tmp_path, "real_stopped", 122, comes_back=True) as process:
        pid = await working(tmp_path)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == 0
        assert not psutil.pid_exists(pid)
        task = await api.get(f"/tasks/{task_id}")
        assert (task["status"], task["retryCount"], task["gpuId"]) == ("QUEUED", 0, None)
        assert (await api.get("/gpus/real_stopped"))["taskFailureCount"] == 0
    async with agent(api, tmp_path, "real_stopped", 122):
        await working(tmp_path, runs=2)
        (tmp_path / "go").touch()
        task = await api.until(task_id, "COMPLETED", "FAILED")
        assert (task["status"], task["retryCount"]) == ("COMPLETED", 0)
    assert await moves(api, task_id) == ["QUEUED", "PROCESSING", "QUEUED", "PROCESSING", "COMPLETED"]


async def moves(api: Api, task_id: str) -> Any:
    return [event["to"] for event in await api.get(f"/tasks/{task_id}/events")]

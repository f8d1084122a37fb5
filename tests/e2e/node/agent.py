"""The node agent as a process of its own, and what its orchestrator would do to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.fake_orchestrator import DEADLINE, KEY, FakeOrchestrator

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DOUBLE, SHOW, TALK, CRASH, RAISE, GATED, FAMILY, BIG, ODD, PICKY = range(2, 12)
PROGRAM, FAILING, STRAYS, SPY, PRINTING = range(20, 25)

HERE = Path(__file__).parent
JOBS = "tests.e2e.node.jobs"
HANDLERS = {
    DOUBLE: "double",
    SHOW: "show",
    TALK: "talk",
    CRASH: "crash",
    RAISE: "fail",
    GATED: "gated",
    FAMILY: "family",
    BIG: "big",
    ODD: "odd",
    PICKY: "picky",
}
COMMANDS = {
    PROGRAM: f"{sys.executable} {HERE / 'program.py'}",
    FAILING: "sh -c 'echo {}; echo no such file >&2; exit 3'",
    STRAYS: f"{sys.executable} {HERE / 'strays.py'}",
    SPY: f"{sys.executable} {HERE / 'spy.py'}",
    PRINTING: f"{sys.executable} {HERE / 'printing.py'}",
}


class Agent:
    """A running agent and what its orchestrator would do to it."""

    def __init__(self, process: asyncio.subprocess.Process, orchestrator: FakeOrchestrator, ready: str) -> None:
        self.process = process
        self.orchestrator = orchestrator
        self.ready = ready
        registration = orchestrator.of("register")[-1].body
        self.secret = registration["dispatchSecret"]
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{registration['port']}",
            headers={"Authorization": f"Bearer {self.secret}"},
            timeout=DEADLINE,
            trust_env=False,
        )

    async def put(
        self, task: str, task_type: int, input: dict[str, Any], *, prefer: str | None = None, **context: Any
    ) -> httpx.Response:
        """Attempt 1 of a task."""
        body = {
            "input": input,
            "context": {"taskId": task, "attempt": 1, "taskType": task_type, "timeout": 60_000} | context,
            "webhook": f"{self.orchestrator.url}/api/v2/tasks/{task}",
        }
        headers = {"X-Attempt-Token": f"token-of-{task}", "traceparent": TRACE} | ({"Prefer": prefer} if prefer else {})
        return await self.http.put(f"/predictions/{task}-1", json=body, headers=headers)

    async def get(self, task: str) -> dict[str, Any]:
        """The state of attempt 1 of a task."""
        return dict((await self.http.get(f"/predictions/{task}-1")).json())

    async def cancel(self, task: str) -> httpx.Response:
        return await self.http.post(f"/predictions/{task}-1/cancel")

    async def health(self) -> str:
        return str((await self.http.get("/health-check")).json()["status"])

    async def result(self, task: str) -> Any:
        """The result of a task, waited for."""
        return json.loads((await self.orchestrator.reported("result", task)).body["result"])

    async def reason(self) -> str | None:
        """Why work could not be started, as shown to a caller with the dispatch secret."""
        return (await self.http.get("/health-check")).json().get("reason")

    async def failure(self, task: str) -> str:
        """The message of a task's failure, waited for."""
        await self.orchestrator.ended(task, "PROCESSING", "FAILED")
        return str(self.orchestrator.of("status", task)[-1].body["message"])

    async def exit(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


def arguments(api: str, gpu_id: str = "gpu_t", *extra: str) -> list[str]:
    return ["--api", api, "--gpu-id", gpu_id, "--heartbeat-interval", "0.2", *extra]


def work(*types: int) -> list[str]:
    handlers = [f"--handler={number}={JOBS}:{HANDLERS[number]}" for number in types if number in HANDLERS]
    return handlers + [f"--command={number}={COMMANDS[number]}" for number in types if number in COMMANDS]


async def spawn(folder: Path, options: list[str], env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    with (folder / "agent.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.cli", "node", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env={**os.environ, "ORCHESTRATOR_NODE_KEY": KEY, "PYTHONPATH": str(HERE.parents[2]), **(env or {})},
        )


@contextlib.asynccontextmanager
async def launched(
    folder: Path, options: list[str], env: dict[str, str] | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """An agent and its ready line; killed in the end if it did not exit by itself."""
    process = await spawn(folder, options, env)
    try:
        assert process.stdout
        async with asyncio.timeout(DEADLINE):
            ready = (await process.stdout.readline()).decode()
        assert ready, (folder / "agent.log").read_text()
        yield process, ready
        if process.returncode is not None:
            assert await process.stdout.read() == b""  # one line, once
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def running(
    orchestrator: FakeOrchestrator, folder: Path, options: list[str], env: dict[str, str] | None = None
) -> AsyncIterator[Agent]:
    """An agent of an orchestrator that only listens, ready."""
    async with launched(folder, options, env) as (process, ready):
        agent = Agent(process, orchestrator, ready)
        async with agent.http:
            yield agent


async def until(holds: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Wait for something outside of this process, of which we get no notice."""
    async with asyncio.timeout(DEADLINE):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)
    raise AssertionError(what)


async def until_exists(path: Path) -> None:
    await until(path.exists, str(path))


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gate(folder: Path, name: str) -> tuple[dict[str, str], Path, Path]:
    """Input for `gated`, the file that shows that it runs, the file that lets it go on."""
    here, go = folder / f"{name}.here", folder / f"{name}.go"
    return {"here": str(here), "go": str(go)}, here, go


async def start_family(agent: Agent, folder: Path, task: str, **context: Any) -> list[int]:
    """Work of three processes: their pids, once all of them run, the agent's own child first."""
    pids = folder / f"{task}.pids"
    await agent.put(task, FAMILY, {"pids": str(pids)}, **context)
    await until(lambda: pids.exists() and pids.read_text().count("\n") == 3, "the family")
    return [int(pid) for pid in pids.read_text().split()]


def folder_of(agent: Agent) -> Path:
    return Path(psutil.Process(agent.process.pid).cwd())


def attempt_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "state" / "attempts.jsonl").read_text().splitlines()]


def logged(folder: Path, task: str, event: str) -> bool:
    return any((line["taskId"], line["event"]) == (task, event) for line in attempt_log(folder))

"""The node agent as a process of its own, against an orchestrator that only listens."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from tests.e2e.fake_orchestrator import DEADLINE, KEY, FakeOrchestrator, fake_orchestrator

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DOUBLE, SHOW, TALK, CRASH, RAISE, GATED, FAMILY, BIG, NAN = range(2, 11)
PROGRAM, FAILING = 20, 21

# What the agents of these tests run. Files are how it is told to go on, and tells what it did.
JOBS = '''
import os, signal, subprocess, sys, time
from pathlib import Path

if os.environ.get("SLOW_IMPORT") and Path(os.environ["SLOW_IMPORT"]).exists():
    time.sleep(600)

def double(input, report):
    with open(input["log"], "a") as log:
        log.write("run\\n")
    return {"x": 2 * input["x"]}

def show(input, report):
    names = ("TASK_ID", "TASK_ATTEMPT", "TASK_TYPE", "TASK_APP", "TASK_USER", "TASK_ENV", "TRACEPARENT")
    secret = [name for name, value in os.environ.items() if "node-key-of-the-tests" in value]
    return {"input": input, "seen": {name: os.environ.get(name) for name in names}, "secret": secret,
            "cuda": os.environ["CUDA_VISIBLE_DEVICES"]}

def talk(input, report):
    print('{"output": {"from": "print"}}', flush=True)
    os.write(1, b'{"error": "from write"}\\n')
    assert sys.stdin.read() == ""
    report(30)
    report(250)
    return {"said": "all"}

def crash(input, report):
    os.kill(os.getpid(), signal.SIGSEGV)

def fail(input, report):
    raise ValueError("no face found")

def gated(input, report):
    report(40)
    Path(input["here"]).touch()
    while not Path(input["go"]).exists():
        time.sleep(0.005)
    return {}

def family(input, report):
    """A deaf child, and a grandchild in a session of its own that nobody waits for; our own pid comes first."""
    with open(input["pids"], "a") as note_self:
        note_self.write(f"{os.getpid()}\\n")
    code = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); %s; time.sleep(600)"
    note = "open(sys.argv[1], 'a').write(f'{os.getpid()}\\\\n')"
    orphan = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
    subprocess.Popen([sys.executable, "-c", code % note, input["pids"]])
    subprocess.run([sys.executable, "-c", orphan, sys.executable, "-c", code % note, input["pids"]], check=True)
    time.sleep(600)

def big(input, report):
    return {"x": "x" * input["size"]}

def nan(input, report):
    return {"x": float("nan")}
'''

PROGRAM_TEXT = """
import json, os, sys
task = json.load(open("/dev/stdin"))
print("loading", flush=True)
print("progress 65", file=sys.stderr, flush=True)
print(json.dumps({"got": task, "id": os.environ["TASK_ID"]}))
print("done")
"""

HANDLERS = {
    DOUBLE: "double",
    SHOW: "show",
    TALK: "talk",
    CRASH: "crash",
    RAISE: "fail",
    GATED: "gated",
    FAMILY: "family",
    BIG: "big",
    NAN: "nan",
}
COMMANDS = {PROGRAM: f"{sys.executable} program.py", FAILING: "sh -c 'echo {}; echo no such file >&2; exit 3'"}


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

    async def put(self, task: str, task_type: int, input: dict[str, Any], **context: Any) -> httpx.Response:
        """Attempt 1 of a task."""
        body = {
            "input": input,
            "context": {"taskId": task, "attempt": 1, "taskType": task_type, "timeout": 60_000} | context,
            "webhook": f"{self.orchestrator.url}/api/v2/tasks/{task}",
        }
        headers = {"X-Attempt-Token": f"token-of-{task}", "traceparent": TRACE}
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
    handlers = [f"--handler={number}=jobs:{HANDLERS[number]}" for number in types if number in HANDLERS]
    return handlers + [f"--command={number}={COMMANDS[number]}" for number in types if number in COMMANDS]


async def spawn(folder: Path, options: list[str], env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    (folder / "jobs.py").write_text(JOBS)
    (folder / "program.py").write_text(PROGRAM_TEXT)
    with (folder / "agent.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.cli", "node", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env={**os.environ, "ORCHESTRATOR_NODE_KEY": KEY, "PYTHONPATH": str(Path.cwd()), **(env or {})},
        )


@contextlib.asynccontextmanager
async def running(
    orchestrator: FakeOrchestrator, folder: Path, options: list[str], env: dict[str, str] | None = None
) -> AsyncIterator[Agent]:
    """An agent that is ready, and killed in the end if it did not exit by itself."""
    process = await spawn(folder, options, env)
    try:
        assert process.stdout
        async with asyncio.timeout(DEADLINE):
            ready = (await process.stdout.readline()).decode()
        assert ready, (folder / "agent.log").read_text()
        agent = Agent(process, orchestrator, ready)
        async with agent.http:
            yield agent
            if process.returncode is not None:
                assert await process.stdout.read() == b""  # one line, once
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


async def until(holds: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Wait for something outside of this process, which nobody tells us of."""
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


async def start_family(agent: Agent, folder: Path, task: str) -> list[int]:
    """Work of three processes: their pids, once all of them run, the agent's own child first."""
    pids = folder / f"{task}.pids"
    await agent.put(task, FAMILY, {"pids": str(pids)})
    await until(lambda: pids.exists() and pids.read_text().count("\n") == 3, "the family")
    return [int(pid) for pid in pids.read_text().split()]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Agent]:
    """One agent with two slots and all the work, for tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("node")
    options = ["--slots", "2", "--state-dir", str(folder / "state"), *work(*HANDLERS, *COMMANDS)]
    async with (
        fake_orchestrator() as orchestrator,
        running(orchestrator, folder, arguments(orchestrator.url, "gpu_s", *options)) as agent,
    ):
        yield agent


@pytest_asyncio.fixture(loop_scope="session")
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    async with fake_orchestrator() as fake:
        yield fake


# --- membership


async def test_registers_and_beats(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    extra = ["--priority", "VIP", "--slots", "3", "--hostname", "box", "--advertise-ip", "127.0.0.2"]
    env = {"VAST_CONTAINERLABEL": "C.42", "CUDA_VISIBLE_DEVICES": ""}
    options = arguments(orchestrator.url, "gpu_1", *extra, *work(PROGRAM, FAILING))
    async with running(orchestrator, tmp_path, options, env) as agent:
        body = orchestrator.of("register")[0].body
        port = body["port"]
        assert agent.ready == f"node ready: gpu_1 http://127.0.0.2:{port} types=[20,21] slots=3\n"
        cores = body["metadata"].pop("cores")
        assert cores >= 1
        assert len(body.pop("dispatchSecret")) >= 32
        assert body == {
            "gpuId": "gpu_1",
            "hostname": "box",
            "ip": "127.0.0.2",
            "port": port,
            "supportedTaskTypes": [20, 21],
            "supportedTaskPriority": "VIP",
            "version": body["version"],
            "maxConcurrentTasks": 3,
            "metadata": {"device": "cpu"},
            "vastInsId": "C.42",
        }
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat", "gpu_1")) >= 3)
        assert await agent.health() == "READY"
        agent.process.terminate()
        assert await agent.exit() == 0
    assert not orchestrator.of("deregister")
    assert KEY not in (tmp_path / "agent.log").read_text()


async def test_waits_for_the_orchestrator_and_registers_again_when_forgotten(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    orchestrator.script("register", 503, 500)
    options = arguments(orchestrator.url, "gpu_1", "--deregister-on-exit", *work(PROGRAM))
    async with running(orchestrator, tmp_path, options) as agent:
        assert len(orchestrator.of("register")) == 3
        orchestrator.script("heartbeat", 500, 404)
        await orchestrator.until(lambda: len(orchestrator.of("register")) == 4)
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat")) >= 4)
        first, again = orchestrator.of("register")[0], orchestrator.of("register")[-1]
        assert first.body == again.body
        agent.process.send_signal(signal.SIGINT)
        assert await agent.exit() == 0
    assert orchestrator.of("deregister", "gpu_1")


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_registration_is_fatal(orchestrator: FakeOrchestrator, tmp_path: Path, status: int) -> None:
    orchestrator.script("register", status)
    process = await spawn(tmp_path, arguments(orchestrator.url, "gpu_1", *work(PROGRAM)))
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output) == (1, b"")
    assert f"scripted {status}" in (tmp_path / "agent.log").read_text()


async def test_setup_failure_is_shown_and_not_registered(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    with contextlib.closing(__import__("socket").socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = arguments(orchestrator.url, "gpu_1", "--port", str(port), "--handler", "2=jobs:missing")
    process = await spawn(tmp_path, options)

    async def failed() -> bool:
        with contextlib.suppress(httpx.ConnectError):
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.get(f"http://127.0.0.1:{port}/health-check")
                return bool(answer.json() == {"status": "SETUP_FAILED"})
        return False

    await until(failed, "SETUP_FAILED")
    process.terminate()
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output) == (1, b"")
    assert "AttributeError: module 'jobs' has no attribute 'missing'" in (tmp_path / "agent.log").read_text()
    assert not orchestrator.of("register")


async def test_a_node_that_waits_to_be_registered_can_be_stopped(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    orchestrator.script("register", *[503] * 100)
    process = await spawn(tmp_path, arguments(orchestrator.url, "gpu_1", *work(DOUBLE)))
    await orchestrator.until(lambda: bool(orchestrator.of("register")))
    process.terminate()
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, output) == (0, b"")


# --- running work


async def test_a_handler_runs_with_its_context(shared: Agent) -> None:
    answer = await shared.put("ctx", SHOW, {"图": [1, None]}, app="app_1", userId="user_1", env="prod")
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (202, "ctx-1", "starting")
    assert await shared.result("ctx") == {
        "input": {"图": [1, None]},
        "seen": {
            "TASK_ID": "ctx",
            "TASK_ATTEMPT": "1",
            "TASK_TYPE": str(SHOW),
            "TASK_APP": "app_1",
            "TASK_USER": "user_1",
            "TASK_ENV": "prod",
            "TRACEPARENT": TRACE,
        },
        "secret": [],
        "cuda": "",
    }
    reports = shared.orchestrator.of("status", "ctx") + shared.orchestrator.of("result", "ctx")
    assert reports[0].body == {"status": "PROCESSING", "gpuId": "gpu_s", "message": "任务开始执行", "progress": 0}
    assert [call.headers["x-attempt-token"] for call in reports] == ["token-of-ctx"] * 2
    assert [call.headers["traceparent"] for call in reports] == [TRACE] * 2


async def test_prints_do_no_harm(shared: Agent) -> None:
    await shared.put("talk", TALK, {})
    assert await shared.result("talk") == {"said": "all"}


async def test_a_program_gets_stdin_and_gives_its_last_json_line(shared: Agent) -> None:
    await shared.put("prog", PROGRAM, {"image": "a.jpg"})
    assert await shared.result("prog") == {"got": {"image": "a.jpg"}, "id": "prog"}
    state = await shared.get("prog")
    assert state["status"] == "succeeded"
    assert state["output"] == {"got": {"image": "a.jpg"}, "id": "prog"}


async def test_progress_is_reported_while_it_works(shared: Agent, tmp_path: Path) -> None:
    input, here, go = gate(tmp_path, "progress")
    await shared.put("progress", GATED, input)
    await until_exists(here)
    calls = shared.orchestrator
    await calls.until(lambda: any(call.body["progress"] == 40 for call in calls.of("status", "progress")))
    state = await shared.get("progress")
    assert (state["status"], state["progress"]) == ("processing", 40)
    go.touch()
    await calls.ended("progress", "PROCESSING", "COMPLETED")


@pytest.mark.parametrize(
    ("task", "task_type", "input", "message"),
    [
        ("segv", CRASH, {}, "killed by signal SEGV"),
        ("raise", RAISE, {}, "ValueError: no face found"),
        ("exit3", FAILING, {}, "no such file"),
        ("nan", NAN, {}, "ValueError: Out of range float values are not JSON compliant"),
        ("big", BIG, {"size": 1_000_000}, "the output is larger than"),
    ],
)
async def test_failures_say_why(shared: Agent, task: str, task_type: int, input: dict[str, Any], message: str) -> None:
    await shared.put(task, task_type, input)
    assert message in await shared.failure(task)
    state = await shared.get(task)
    assert state["status"] == "failed"
    assert message in state["error"]
    assert await shared.health() == "READY"


async def test_an_output_too_large_for_an_answer_travels_by_report_only(shared: Agent) -> None:
    await shared.put("large", BIG, {"size": 100_000})
    assert len((await shared.result("large"))["x"]) == 100_000
    answer = await shared.put("large", BIG, {"size": 100_000})
    assert (answer.status_code, answer.json()["status"]) == (202, "succeeded")
    assert "output" not in answer.json()


async def test_an_id_is_never_executed_twice(shared: Agent, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    input = {"log": str(log), "x": 4}
    answers = await asyncio.gather(*(shared.put("once", DOUBLE, input) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert await shared.result("once") == {"x": 8}
    answer = await shared.put("once", DOUBLE, input)
    assert (answer.status_code, answer.json()["status"], answer.json()["output"]) == (200, "succeeded", {"x": 8})
    assert log.read_text() == "run\n"


async def test_cancel_kills_the_whole_family(shared: Agent, tmp_path: Path) -> None:
    pids = await start_family(shared, tmp_path, "family")
    assert all(map(lives, pids))
    answer = await shared.cancel("family")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    await until(lambda: not any(map(lives, pids)), "the death of the family")
    assert (await shared.get("family"))["status"] == "canceled"
    assert (await shared.put("family", FAMILY, {"pids": "x"})).status_code == 200
    await until(lambda: logged(tmp_path_of(shared), "family", "canceled"), "the end in the log")
    assert shared.orchestrator.statuses("family") == ["PROCESSING"]
    assert (await shared.cancel("never")).status_code == 404


async def test_deadline(shared: Agent, tmp_path: Path) -> None:
    input, here, _ = gate(tmp_path, "deadline")
    await shared.put("deadline", GATED, input, timeout=400)
    assert await shared.failure("deadline") == "deadline of 400 ms exceeded"
    assert here.exists()


async def test_full_node_answers_409(shared: Agent, tmp_path: Path) -> None:
    gates = [gate(tmp_path, f"full{number}") for number in range(2)]
    for number, (input, here, _) in enumerate(gates):
        assert (await shared.put(f"full{number}", GATED, input)).status_code == 202
        await until_exists(here)
    assert await shared.health() == "BUSY"
    answer = await shared.put("full2", GATED, {})
    assert (answer.status_code, "detail" in answer.json()) == (409, True)
    for number, (_, _, go) in enumerate(gates):
        go.touch()
        await shared.result(f"full{number}")
    assert await shared.health() == "READY"
    assert (await shared.http.get("/predictions/full2-1")).status_code == 404


async def test_last_reports_are_repeated(shared: Agent, tmp_path: Path) -> None:
    shared.orchestrator.script("result", 503, 500, headers={"Retry-After": "0"})
    await shared.put("repeat", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    await shared.orchestrator.until(lambda: len(shared.orchestrator.of("result", "repeat")) == 3)
    assert len({call.body["result"] for call in shared.orchestrator.of("result", "repeat")}) == 1
    shared.orchestrator.script("result", 404)
    await shared.put("dropped", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    await shared.result("dropped")
    await shared.put("after", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    await shared.result("after")
    assert len(shared.orchestrator.of("result", "dropped")) == 1


async def test_a_foreign_webhook_never_sees_the_key(shared: Agent, tmp_path: Path) -> None:
    async with fake_orchestrator() as foreign:
        body = {
            "input": {"log": str(tmp_path / "runs"), "x": 1},
            "context": {"taskId": "foreign", "attempt": 1, "taskType": DOUBLE},
            "webhook": f"{foreign.url}/api/v2/tasks/foreign",
        }
        assert (await shared.http.put("/predictions/foreign-1", json=body)).status_code == 202
        assert await shared.result("foreign") == {"x": 2}
        assert foreign.calls == []


async def test_bad_requests(shared: Agent) -> None:
    for content in (b"", b"{", b"[]", b'{"input": 1, "context": {}}', b"[" * 100_000, b" " * (2**20 + 1)):
        answer = await shared.http.put("/predictions/bad-1", content=content)
        assert answer.status_code == 400
        assert set(answer.json()) == {"detail"}
    assert (await shared.put("bad", 99, {})).status_code == 422
    assert (await shared.http.get("/predictions/bad-1")).status_code == 404
    assert (await shared.http.post("/predictions/bad-1")).status_code == 405
    for secret in ("", "Bearer", f"Bearer {shared.secret}x", KEY, f"Basic {shared.secret}"):
        for method, path in (("PUT", "/predictions/bad-1"), ("GET", "/predictions/once-1"), ("GET", "/nothing")):
            answer = await shared.http.request(method, path, headers={"Authorization": secret})
            assert answer.status_code == 401
    assert (await shared.http.get("/health-check", headers={"Authorization": ""})).status_code == 200


async def test_the_attempt_log_tells_the_whole_story(shared: Agent, tmp_path: Path) -> None:
    await shared.put("story", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    result = (await shared.orchestrator.reported("result", "story")).body["result"]
    lines = [line for line in attempt_log(tmp_path_of(shared)) if line["taskId"] == "story"]
    assert [line["event"] for line in lines] == ["accepted", "started", "succeeded"]
    assert {(line["id"], line["attempt"], line["gpuId"]) for line in lines} == {("story-1", 1, "gpu_s")}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert lines[-1]["sha256"] == hashlib.sha256(result.encode()).hexdigest()


def tmp_path_of(agent: Agent) -> Path:
    return Path(psutil.Process(agent.process.pid).cwd())


def attempt_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "state" / "attempts.jsonl").read_text().splitlines()]


def logged(folder: Path, task: str, event: str) -> bool:
    return any((line["taskId"], line["event"]) == (task, event) for line in attempt_log(folder))


async def test_a_node_that_cannot_start_processes_is_defunct(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    program = tmp_path / "gone"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", f"--command=2={program}")
    async with running(orchestrator, tmp_path, options) as agent:
        program.unlink()
        for number in range(3):
            assert (await agent.put(f"t{number}", 2, {})).status_code == 202
            assert "the work cannot be started" in await agent.failure(f"t{number}")
        assert await agent.health() == "DEFUNCT"
        assert (await agent.put("t3", 2, {})).status_code == 503


# --- the end of an agent


async def test_drain_lets_running_work_finish_and_hands_back_the_rest(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    options = arguments(orchestrator.url, "gpu_1", "--slots", "2", *work(GATED, PROGRAM))
    async with running(orchestrator, tmp_path, options, {"SLOW_IMPORT": str(slow)}) as agent:
        running_input, here, go = gate(tmp_path, "running")
        await agent.put("running", GATED, running_input)
        await until_exists(here)
        # The spare of the second slot is used up; the process after it hangs in its import, so this has not begun.
        first_input, _, first_go = gate(tmp_path, "first")
        await agent.put("first", GATED, first_input)
        first_go.touch()
        slow.touch()
        await agent.result("first")
        await agent.put("waiting", GATED, {})
        agent.process.terminate()
        await orchestrator.ended("waiting", "QUEUED")
        assert (await agent.put("late", PROGRAM, {})).status_code == 503
        assert (await agent.put("running", GATED, {})).status_code == 202
        beats = len(orchestrator.of("heartbeat"))
        await orchestrator.until(lambda: len(orchestrator.of("heartbeat")) > beats)
        go.touch()
        assert await agent.exit() == 0
    assert orchestrator.statuses("running") == ["PROCESSING", "COMPLETED"]


async def test_drain_kills_what_takes_too_long(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", "--drain-timeout", "0.2", *work(GATED))
    async with running(orchestrator, tmp_path, options) as agent:
        input, here, _ = gate(tmp_path, "long")
        await agent.put("long", GATED, input)
        await until_exists(here)
        agent.process.terminate()
        assert await agent.exit() == 0
        assert await agent.failure("long") == "node shut down"


async def test_a_second_signal_ends_it_at_once(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", "--drain-timeout", "600", *work(FAMILY))
    async with running(orchestrator, tmp_path, options) as agent:
        pids = await start_family(agent, tmp_path, "long")
        agent.process.terminate()
        await until(lambda: is_busy(agent), "the drain")
        agent.process.terminate()
        assert await agent.exit() == 1
        assert not any(map(lives, pids))


async def is_busy(agent: Agent) -> bool:
    return (await agent.put("probe", FAMILY, {})).status_code == 503


async def test_a_killed_agent_leaves_no_child_and_remembers(orchestrator: FakeOrchestrator, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    state = ["--state-dir", str(tmp_path / "state"), "--slots", "2"]
    options = arguments(orchestrator.url, "gpu_1", *state, *work(DOUBLE, FAMILY))
    async with running(orchestrator, tmp_path, options) as agent:
        await agent.put("done", DOUBLE, {"log": str(log), "x": 3})
        await agent.result("done")
        orchestrator.script("result", *[503] * 100)
        await agent.put("unheard", DOUBLE, {"log": str(log), "x": 5})
        await agent.result("unheard")
        pids = await start_family(agent, tmp_path, "running")
        agent.process.kill()
        await agent.exit()
        await until(
            lambda: not lives(pids[0]), "the death of the agent's child"
        )  # of its children only the next agent knows
    orchestrator.scripted.clear()
    unheard = len(orchestrator.of("result", "unheard"))
    async with running(orchestrator, tmp_path, options) as agent:
        assert not any(map(lives, pids))
        await orchestrator.ended("running", "PROCESSING", "FAILED")
        await orchestrator.until(lambda: len(orchestrator.of("result", "unheard")) > unheard)
        assert orchestrator.of("result", "unheard")[-1].headers["x-attempt-token"] == "token-of-unheard"
        state_of = await agent.get("running")
        assert (state_of["status"], state_of["error"]) == ("failed", "agent restarted")
        assert (await agent.put("running", DOUBLE, {"log": str(log), "x": 1})).json()["status"] == "failed"
        again = await agent.put("done", DOUBLE, {"log": str(log), "x": 3})
        assert (again.status_code, again.json()["output"]) == (200, {"x": 6})
        agent.process.terminate()
        assert await agent.exit() == 0
    assert log.read_text() == "run\nrun\n"
    assert [line["event"] for line in attempt_log(tmp_path) if line["taskId"] == "running"] == [
        "accepted",
        "started",
        "failed",
    ]
    assert KEY not in "".join(path.read_text() for path in (tmp_path / "state").iterdir())

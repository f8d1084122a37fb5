"""What becomes of the work that an agent is given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fake_orchestrator import FakeOrchestrator
from tests.e2e.node.agent import (
    BIG,
    CRASH,
    DOUBLE,
    FAILING,
    FAMILY,
    GATED,
    NAN,
    PROGRAM,
    RAISE,
    SHOW,
    TALK,
    TRACE,
    Agent,
    arguments,
    attempt_log,
    folder_of,
    gate,
    lives,
    logged,
    running,
    start_family,
    until,
    until_exists,
)


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


async def test_cancel_kills_the_whole_family(shared: Agent, tmp_path: Path) -> None:
    pids = await start_family(shared, tmp_path, "family")
    assert all(map(lives, pids))
    answer = await shared.cancel("family")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    await until(lambda: not any(map(lives, pids)), "the death of the family")
    assert (await shared.get("family"))["status"] == "canceled"
    assert (await shared.put("family", FAMILY, {"pids": "x"})).status_code == 200
    await until(lambda: logged(folder_of(shared), "family", "canceled"), "the end in the log")
    assert shared.orchestrator.statuses("family") == ["PROCESSING"]
    assert (await shared.cancel("never")).status_code == 404


async def test_at_its_deadline_work_is_killed_and_no_failure_is_told(shared: Agent, tmp_path: Path) -> None:
    pids = await start_family(shared, tmp_path, "deadline", timeout=400)
    await until(lambda: not any(map(lives, pids)), "the death of the family")
    await until(lambda: logged(folder_of(shared), "deadline", "canceled"), "the end in the log")
    state = await shared.get("deadline")
    assert (state["status"], state["error"]) == ("canceled", "deadline of 400 ms exceeded")
    again = await shared.put("deadline", FAMILY, {"pids": "x"})
    assert (again.status_code, again.json()["status"]) == (202, "canceled")
    assert shared.orchestrator.statuses("deadline") == ["PROCESSING"]


async def test_the_attempt_log_tells_the_whole_story(shared: Agent, tmp_path: Path) -> None:
    await shared.put("story", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    result = (await shared.orchestrator.reported("result", "story")).body["result"]
    lines = [line for line in attempt_log(folder_of(shared)) if line["taskId"] == "story"]
    assert [line["event"] for line in lines] == ["accepted", "started", "succeeded"]
    assert {(line["id"], line["attempt"], line["gpuId"]) for line in lines} == {("story-1", 1, "gpu_s")}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert lines[-1]["sha256"] == hashlib.sha256(result.encode()).hexdigest()


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

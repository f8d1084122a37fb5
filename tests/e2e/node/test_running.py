"""Work that an agent is given, and its end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
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
    HERE,
    ODD,
    PICKY,
    PRINTING,
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
    work,
)
from tests.e2e.node.jobs import nested


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
        ("big", BIG, {"size": 1_048_576}, "the result is larger than 1024 KiB as a report"),
        ("cut", PRINTING, {"out": '{"ok": 1}\n{\n  "x": [\n    4\n'}, "ends inside of a JSON document"),
        ("exit66", PRINTING, {"err": "no such face\n", "status": 66}, "no such face"),
    ],
)
async def test_failures_say_why(shared: Agent, task: str, task_type: int, input: dict[str, Any], message: str) -> None:
    await shared.put(task, task_type, input)
    assert message in await shared.failure(task)
    state = await shared.get(task)
    assert state["status"] == "failed"
    assert message in state["error"]
    assert await shared.health() == "READY"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", "the result is not JSON: ValueError: Out of range float values are not JSON compliant"),
        ("bytes", "the result is not JSON: TypeError: Object of type bytes is not JSON serializable"),
        ("set", "the result is not JSON: TypeError: Object of type set is not JSON serializable"),
        ("datetime", "the result is not JSON: TypeError: Object of type datetime is not JSON serializable"),
        ("tuple", "the result is not JSON: TypeError: keys must be str, int, float, bool or None, not tuple"),
        ("list", "the handler returned list, not a dict"),
        ("nothing", "the handler returned NoneType, not a dict"),
        ("nul", "the result holds the character NUL"),
        ("surrogate", "the result is not JSON: UnicodeEncodeError: "),
        ("large number", "the result is not JSON: ValueError: Exceeds the limit (4300 digits)"),
        ("itself", "the result is not JSON: ValueError: Circular reference detected"),
        ("101 levels", "the result is nested more than 100 levels deep"),
        ("980 levels", "the result is nested more than 100 levels deep"),
        ("many levels", "the result is not JSON: RecursionError: "),
        ("2 MB", "the result is larger than 1024 KiB as a report"),
    ],
)
async def test_a_result_that_may_not_travel_fails_and_says_why(shared: Agent, what: str, message: str) -> None:
    task = f"odd {what}".replace(" ", "-")
    await shared.put(task, ODD, {"what": what})
    assert (await shared.failure(task)).startswith(message)
    assert "rejected" not in shared.orchestrator.of("status", task)[-1].body


@pytest.mark.parametrize("what", ["99 levels", "100 levels", "numbers for names"])
async def test_what_may_travel_travels(shared: Agent, what: str) -> None:
    task = f"good {what}".replace(" ", "-")
    await shared.put(task, ODD, {"what": what})
    expected = nested(int(what[:3])) if "levels" in what else {"1": {"null": [True, 2.5]}}
    assert await shared.result(task) == expected


@pytest.mark.parametrize(
    ("task", "task_type", "input", "reason"),
    [
        ("no-face", PICKY, {"how": "agent's", "words": ["no face found"]}, "no face found"),
        ("wordless", PICKY, {"how": "agent's", "words": []}, "BadInput"),
        ("own", PICKY, {"how": "ours"}, "no face found"),
        ("exit65", PRINTING, {"out": "{}\n", "err": "reading\nno face\n", "status": 65}, "reading\nno face"),
        ("exit65-wordless", PRINTING, {"status": 65}, "exit status 65: the input cannot be used"),
    ],
)
async def test_an_input_that_can_never_work_is_rejected(
    shared: Agent, task: str, task_type: int, input: dict[str, Any], reason: str
) -> None:
    await shared.put(task, task_type, input)
    assert await shared.failure(task) == reason
    report = shared.orchestrator.of("status", task)[-1].body
    assert report == {"status": "FAILED", "gpuId": "gpu_s", "message": reason, "rejected": True}
    state = await shared.get(task)
    assert (state["status"], state["error"], state["rejected"]) == ("failed", reason, True)
    assert (await shared.put(task, task_type, input)).json() == state


async def test_a_result_printed_over_several_lines_is_taken_whole(shared: Agent) -> None:
    result = {"score": 0.25, "boxes": [[1, 2], [3, 4]]}
    out = f'{{"step": 1}}\n{json.dumps(result, indent=2)}\n\n[INFO] {{done}}\n4\n'
    await shared.put("indented", PRINTING, {"out": out})
    assert await shared.result("indented") == result


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
    assert (answer.status_code, answer.json()["status"], answer.json()["stopped"]) == (200, "canceled", True)
    assert not any(map(lives, pids))
    assert (await shared.get("family"))["status"] == "canceled"
    assert (await shared.put("family", FAMILY, {"pids": "x"})).status_code == 200
    await until(lambda: logged(folder_of(shared), "family", "canceled"), "the end in the log")
    assert shared.orchestrator.statuses("family") == ["PROCESSING"]
    assert (await shared.cancel("never")).status_code == 404


async def test_what_is_cancelled_before_it_comes_does_not_run(shared: Agent, tmp_path: Path) -> None:
    assert (await shared.cancel("early")).status_code == 404
    answer = await shared.put("early", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert (await shared.get("early"))["status"] == "canceled"
    await shared.put("later", DOUBLE, {"log": str(tmp_path / "runs"), "x": 2})
    await shared.result("later")
    assert (tmp_path / "runs").read_text().count("\n") == 1
    assert not logged(folder_of(shared), "early", "accepted")


async def test_at_its_deadline_work_is_killed_and_no_failure_is_reported(shared: Agent, tmp_path: Path) -> None:
    pids = await start_family(shared, tmp_path, "deadline", timeout=400)
    await until(lambda: not any(map(lives, pids)), "the death of the family")
    await until(lambda: logged(folder_of(shared), "deadline", "canceled"), "the end in the log")
    state = await shared.get("deadline")
    assert (state["status"], state["error"]) == ("canceled", "deadline of 400 ms exceeded")
    again = await shared.put("deadline", FAMILY, {"pids": "x"})
    assert (again.status_code, again.json()["status"]) == (202, "canceled")
    assert shared.orchestrator.statuses("deadline") == ["PROCESSING"]


async def test_the_attempt_log_has_the_full_history(shared: Agent, tmp_path: Path) -> None:
    await shared.put("story", DOUBLE, {"log": str(tmp_path / "runs"), "x": 1})
    result = (await shared.orchestrator.reported("result", "story")).body["result"]
    lines = [line for line in attempt_log(folder_of(shared)) if line["taskId"] == "story"]
    assert [line["event"] for line in lines] == ["accepted", "started", "succeeded"]
    assert {(line["id"], line["attempt"], line["gpuId"]) for line in lines} == {("story-1", 1, "gpu_s")}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert lines[-1]["sha256"] == hashlib.sha256(result.encode()).hexdigest()


def script(path: Path, first_line: str = "#!/bin/sh") -> None:
    path.write_text(f"{first_line}\nsleep 0.1; echo '{{}}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Path.unlink, "No such file or directory"),
        (lambda program: program.chmod(0o644), "Permission denied"),
        (lambda program: program.write_text("echo {}"), "Exec format error"),
        (lambda program: script(program, "#!/no/such/shell"), "No such file or directory"),
    ],
    ids=["missing", "not executable", "no interpreter line", "no interpreter"],
)
async def test_work_that_cannot_be_started_is_handed_back_until_it_can(
    orchestrator: FakeOrchestrator, tmp_path: Path, trouble: Callable[[Path], None], reason: str
) -> None:
    program = tmp_path / "program"
    script(program)
    options = arguments(orchestrator.url, "gpu_1", "--slots", "2", f"--command=2={program}", *work(DOUBLE + 1))
    async with running(orchestrator, tmp_path, options) as agent:
        trouble(program)
        for task in ("t1", "t2", "t3", "t4"):
            assert (await agent.put(task, 2, {})).status_code == 202
            await orchestrator.until(lambda: orchestrator.statuses(task)[-1:] == ["QUEUED"])  # noqa: B023
            report = orchestrator.of("status", task)[-1].body
            assert report["message"].startswith("handed back: the work cannot be started: ")
            assert reason in report["message"]
            assert await agent.health() == "DEFUNCT"
            assert reason in (await agent.reason() or "")
        stranger = await agent.http.get("/health-check", headers={"Authorization": ""})
        assert stranger.json() == {"status": "DEFUNCT"}
        await agent.put("other", DOUBLE + 1, {})  # of another type, which is well
        await agent.result("other")
        script(program)
        assert (await agent.put("well", 2, {})).status_code == 202
        await agent.result("well")
        assert (await agent.health(), await agent.reason()) == ("READY", None)


async def test_a_handler_that_cannot_be_imported_any_more_is_tried_with_each_attempt(
    orchestrator: FakeOrchestrator, tmp_path: Path
) -> None:
    module = tmp_path / "my_work.py"
    module.write_text("def run(input, report):\n    return {}\n")
    options = arguments(orchestrator.url, "gpu_1", "--slots", "1", "--handler", "2=my_work:run")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE.parents[2])]), "PYTHONDONTWRITEBYTECODE": "1"}
    async with running(orchestrator, tmp_path, options, env) as agent:
        good = module.read_text()
        module.write_text("import no_such_module\n")
        await agent.put("spare", 2, {})  # a process of before is waiting for it
        await agent.result("spare")
        for task in ("t1", "t2", "t3"):
            assert (await agent.put(task, 2, {})).status_code == 202
            await orchestrator.until(lambda: orchestrator.statuses(task)[-1:] == ["QUEUED"])  # noqa: B023
            assert "No module named 'no_such_module'" in orchestrator.of("status", task)[-1].body["message"]
            assert await agent.health() == "SETUP_FAILED"
        module.write_text(good)
        await until(lambda: well(agent, 2), "a node that is well again")
        assert (await agent.health(), await agent.reason()) == ("READY", None)


async def well(agent: Agent, task_type: int) -> bool:
    """Whether the next attempt succeeds; False where it is handed back."""
    task = f"try{len(agent.orchestrator.calls)}"
    await agent.put(task, task_type, {})
    await agent.orchestrator.until(lambda: agent.orchestrator.statuses(task)[-1:] in (["QUEUED"], ["COMPLETED"]))
    return agent.orchestrator.statuses(task)[-1] == "COMPLETED"

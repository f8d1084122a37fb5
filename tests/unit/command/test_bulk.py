"""`cancel` and `retry`: of one task, or of many."""

from __future__ import annotations

import io
import json
import re
from contextlib import nullcontext

import pytest

from gpu_orchestrator_client import calls
from tests.unit.command.samples import CREATED, TASK, Captured, Serve, interrupted
from workers.cli import main
from workers.command import bulk, output, server

OPERATION = {"operationId": "op_1", "kind": "RETRY", "state": "DONE", "matched": 3, "done": 2, "failed": 1}


def test_a_dry_run_counts(serve: Serve, capsys: Captured) -> None:
    api = serve({"POST /tasks/retry": [(200, {"matched": 3})], "GET /tasks": [(200, [TASK], {"X-Total-Count": "2"})]})
    assert main(["retry", "--failed", "--since", "1h", "--dry-run"]) == 0
    body = api.made("POST", "/tasks/retry")[0].body
    assert body["dryRun"] is True
    assert body["filter"]["status"] == "FAILED"
    assert "createdAfter" in body["filter"]
    assert "3 tasks would be retried, 2 of which were cancelled" in capsys.readouterr().err
    assert main(["retry", "--failed", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"matched": 3}


def test_waits_for_the_operation(serve: Serve, capsys: Captured) -> None:
    begun = (200, {"operationId": "op_1", "matched": 3})
    running = (200, OPERATION | {"state": "RUNNING"})
    api = serve({"POST /tasks/retry": [begun], "GET /operations/op_1": [running, (200, OPERATION)]})
    assert main(["retry", "--failed"]) == 1  # nobody is asked where there is no terminal
    call = api.made("POST", "/tasks/retry")[0]
    assert call.body == {"filter": {"status": "FAILED"}}
    assert call.headers["idempotency-key"]
    assert capsys.readouterr().err == "2 of 3 tasks retried, 1 could not be\n"


@pytest.mark.parametrize("words", [[], ["--json"]])
@pytest.mark.parametrize(("answer", "calls"), [("y\n", 2), ("n\n", 1), ("\n", 1), ("", 1)])
def test_asks_a_person(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    answer: str,
    calls: int,
    capsys: Captured,
) -> None:
    ended = OPERATION | {"done": 3, "failed": 0}
    api = serve(
        {
            "POST /tasks/cancel": [(200, {"matched": 3}), (200, {"operationId": "op_1", "matched": 3})],
            "GET /operations/op_1": [(200, ended)],
        }
    )
    monkeypatch.setattr(output, "_keyboard", lambda: nullcontext(io.StringIO(answer)))
    assert main(["cancel", "--type", "2", "--reason", "wrong model", *words]) == 0
    found = api.made("POST", "/tasks/cancel")
    assert len(found) == calls
    assert {one.body["reason"] for one in found} == {"wrong model"}
    out, said = capsys.readouterr()
    assert said.startswith("Cancel 3 tasks? [y/N] ")
    if calls == 1:
        assert "nothing is changed" in said
        assert (out and json.loads(out)) == ({"matched": 3} if words else "")
    elif words:
        assert json.loads(out)["done"] == 3
    else:
        assert "3 of 3 tasks cancelled" in said


def test_ctrl_c_says_what_goes_on(serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    begun = {"operationId": "op_1", "matched": 3}
    serve({"POST /tasks/retry": [(200, begun)]})
    monkeypatch.setattr(bulk, "_until_done", interrupted)
    assert main(["retry", "--failed", "--json"]) == 130
    out, said = capsys.readouterr()
    assert json.loads(out) == begun
    assert "it goes on in the background: op_1, 3 tasks" in said


@pytest.mark.parametrize("words", [["task_1"], ["task_1", "task_2"], ["--failed", "--since", "1h"]])
def test_what_may_be_done_is_found_by_its_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: Captured
) -> None:
    api = serve({})
    with monkeypatch.context() as pressed:
        pressed.setattr(server.Server, "_send", interrupted)
        assert main(["retry", *words]) == 130
    again = re.search(r"--idempotency-key (\S+) with the same options(, --since \S+)? ", capsys.readouterr().err)
    assert again is not None
    since = (again[2] or "").strip(", ").split()
    monkeypatch.setattr(calls.call, "__defaults__", (0.1, calls.LEAST_TRIES))
    for name in ("POST /tasks/task_1/retry", "POST /tasks/retry"):
        api.answers[name] = [(503, "服务暂不可用")]
    for _ in range(2):
        assert main(["retry", *words, *since, "--idempotency-key", again[1], "-y"]) == 5
    assert {one.headers["idempotency-key"] for one in api.calls} == {again[1]}
    assert len({json.dumps(one.body) for one in api.calls}) == 1
    assert f"--idempotency-key {again[1]} with the same options" in capsys.readouterr().err


def test_an_operation_is_found_when_none_of_its_tasks_is_left(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    answers = [(200, {"matched": 0}), (200, {"operationId": "op_1", "matched": 3})]
    ended = (200, OPERATION | {"done": 3, "failed": 0})
    serve({"POST /tasks/cancel": answers, "GET /operations/op_1": [ended]})
    monkeypatch.setattr(output, "_keyboard", lambda: nullcontext(io.StringIO("y\n")))
    assert main(["cancel", "--type", "2", "--idempotency-key", "k"]) == 0
    assert "3 of 3 tasks cancelled" in capsys.readouterr().err


def test_half_a_character_is_a_wrong_command(serve: Serve, capsys: Captured) -> None:
    api = serve({})
    assert main(["cancel", "task_1", "--reason", "\udcff"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not api.calls


@pytest.mark.parametrize("words", [[], ["task_1", "--all"], ["task_1", "--type", "2"], ["--all", "--user", "u"]])
@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_a_choice_is_one(serve: Serve, command: str, words: list[str], capsys: Captured) -> None:
    api = serve({})
    assert main([command, *words]) == 2
    assert not api.calls
    assert capsys.readouterr().err.startswith("error: ")


def test_all_is_said_in_so_many_words(serve: Serve) -> None:
    api = serve({"POST /tasks/cancel": [(200, {"matched": 0})]})
    assert main(["cancel", "--all", "--dry-run"]) == 0
    assert api.calls[0].body == {"filter": {"all": True}, "dryRun": True}


def test_ids(serve: Serve, capsys: Captured) -> None:
    api = serve(
        {
            "POST /tasks/task_1/cancel": [(200, "任务已取消")],
            "POST /tasks/task_1/retry": [(200, CREATED | {"taskId": "task_2"})],
            "POST /tasks/cancel": [(200, {"operationId": "op_1", "matched": 2})],
            "GET /operations/op_1": [(200, OPERATION | {"failed": 0})],
        }
    )
    assert main(["cancel", "task_1"]) == 0
    assert main(["cancel", "task_1", "task_2", "-y"]) == 0
    assert api.made("POST", "/tasks/cancel")[0].body == {"ids": ["task_1", "task_2"]}
    assert main(["retry", "task_1"]) == 0
    found = capsys.readouterr()
    assert found.out == "task_2\n"
    assert found.err.startswith("task_1: 任务已取消\n")
    assert main(["cancel", "task_1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"taskId": "task_1", "message": "任务已取消"}

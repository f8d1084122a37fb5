"""`watch`: what a task does, until it has ended."""

from __future__ import annotations

import json

import pytest

from gpu_orchestrator_client import calls
from tests.unit.command.samples import DONE, TASK, WATCHED, Captured, Serve, interrupted
from tests.unit.fake_api import sse
from workers.cli import main
from workers.command import following, views


def test_json_is_a_value_on_each_line(serve: Serve, capsys: Captured) -> None:
    serve(WATCHED)
    assert main(["watch", "task_1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["kind"] for one in lines] == ["snapshot", "status", "progress", "end"]
    assert lines[-1]["data"] == DONE


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [("FAILED", "FAILED", 1), ("TIMEOUT", "DEADLINE", 3), ("FAILED", "CANCELLED", 4)],
)
def test_the_exit_status_is_the_tasks(serve: Serve, status: str, reason: str, expected: int, capsys: Captured) -> None:
    ended = TASK | {"status": status, "endReason": reason, "errorMessage": "why"}
    serve(
        {
            "GET /tasks/task_1/stream": [sse(("snapshot", ended), ("end", ended))],
            "GET /tasks/task_1": [(200, ended)],
        }
    )
    assert main(["watch", "task_1"]) == expected
    assert capsys.readouterr() == ("", f"{reason}: why\n")


def test_goes_on_where_the_stream_breaks(serve: Serve, capsys: Captured) -> None:
    whole = WATCHED["GET /tasks/task_1/stream"][0]
    first, rest = whole[: whole.index("id: evt_2")], whole[whole.index("id: evt_2") :]
    api = serve({**WATCHED, "GET /tasks/task_1/stream": [(503, "重启中", {"Retry-After": "0"}), first, rest]})
    assert main(["watch", "task_1"]) == 0
    assert [one.headers.get("last-event-id") for one in api.made("GET", "/tasks/task_1/stream")] == [
        None,
        None,
        "evt_1",
    ]
    assert "重启中 (503)" in capsys.readouterr().err


def test_an_end_that_was_seen_is_the_exit_status(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(calls.call, "__defaults__", (0.1, calls.LEAST_TRIES))
    away = {"GET /tasks/task_1/progress": [(500, "内部错误")], "GET /tasks/task_1": [(503, "服务暂不可用")]}
    serve({**WATCHED, **away})
    assert main(["watch", "task_1"]) == 0
    assert capsys.readouterr().err.endswith("its result can't be read: 服务暂不可用 (503)\nCOMPLETED after 2 s\n")
    assert main(["watch", "task_1", "--json"]) == 0
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (end["kind"], end["data"]["status"]) == ("end", "COMPLETED")


@pytest.mark.parametrize(("pressed_at", "state"), [("asked", "goes on"), ("_cancel", "may be cancelled")])
def test_a_second_ctrl_c_says_what_is_known(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, pressed_at: str, state: str, capsys: Captured
) -> None:
    serve(WATCHED)
    monkeypatch.setattr(views.LineView, "show", interrupted)
    monkeypatch.setattr(following, "can_ask", lambda: True)
    monkeypatch.setattr(following, "asked", lambda _: True)
    monkeypatch.setattr(following, pressed_at, interrupted)
    assert main(["watch", "task_1"]) == 130
    assert f"task_1 {state}; to follow it, or to end it:" in capsys.readouterr().err


def test_an_unknown_task(serve: Serve, capsys: Captured) -> None:
    serve({"GET /tasks/a%2Fb/stream": [(404, "任务不存在")]})
    assert main(["watch", "a/b"]) == 5
    assert capsys.readouterr().err.startswith("error: 任务不存在 (404)\ngpu-orchestrator tasks")

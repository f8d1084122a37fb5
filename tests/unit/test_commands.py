"""The commands that call the API: what they ask it, what they print, how they end."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest

from gpu_orchestrator_client import naming
from gpu_orchestrator_client.errors import Forbidden, TooManyRequests, Unavailable
from tests.unit.fake_api import FakeApi, serving, sse
from workers.cli import main
from workers.command import drain, following, many, output, profile, server, top, views
from workers.command.fleet import Fleet

CREATED = {"taskId": "task_1", "displayId": 1, "status": "QUEUED", "estimatedWaitTime": 95}
TASK: dict[str, Any] = {
    "taskId": "task_1",
    "taskType": 2,
    "status": "QUEUED",
    "app": "cli",
    "userId": "u",
    "createdAt": 1000,
}
DONE = TASK | {"status": "COMPLETED", "endReason": "COMPLETED", "result": '{"n":1}', "completedAt": 3000}
WATCHED: dict[str, list[Any]] = {
    "GET /tasks/task_1/progress": [
        (200, {"waiting": {"reason": "3 nodes: 3 full", "estimatedWaitTime": 95}, "queuePosition": 4})
    ],
    "GET /tasks/task_1/stream": [
        sse(
            ("snapshot", TASK),
            ("status", {"gpuId": "gpu_001", "data": {"status": "PROCESSING", "attempt": 1}}),
            ("progress", {"progress": 65, "estimatedRemainingTime": 40}),
            ("end", {name: value for name, value in DONE.items() if name != "result"}),
        )
    ],
    "GET /tasks/task_1": [(200, DONE)],
}
Captured = pytest.CaptureFixture[str]
Serve = Callable[[dict[str, list[Any]]], FakeApi]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serves answers to the commands of this process."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(naming.KEY, "secret")
    monkeypatch.setattr(many, "PAUSES_S", (0.0,))
    monkeypatch.setattr(drain, "PAUSE_S", 0.0)
    monkeypatch.setattr(output, "_keyboard", lambda: nullcontext(None))  # nobody is asked
    monkeypatch.setattr(output, "_screen", lambda: nullcontext(sys.stderr))
    with ExitStack() as opened:

        def serve(answers: dict[str, list[Any]]) -> FakeApi:
            api = opened.enter_context(serving(FakeApi({name: list(them) for name, them in answers.items()})))
            monkeypatch.setenv(naming.URL, api.url)
            return api

        yield serve


def interrupted(*_: Any) -> Any:
    """Somebody presses Ctrl-C."""
    raise KeyboardInterrupt


def job(tmp_path: Path, content: str | bytes = '{"n": 1}') -> str:
    file = tmp_path / "job.json"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


class TestSubmit:
    def test_prints_the_id_alone(self, serve: Serve, tmp_path: Path, capsys: Captured) -> None:
        api = serve({"POST /tasks": [(200, CREATED)]})
        words = [
            "--priority",
            "3",
            "--timeout",
            "10m",
            "--max-wait",
            "30s",
            "--app",
            "a",
            "--user",
            "u",
            "--group",
            "g",
        ]
        assert main(["submit", "--type", "2", "-f", job(tmp_path), *words]) == 0
        assert api.calls[0].body == {
            "taskType": 2, "userId": "u", "app": "a", "payload": '{"n": 1}', "priority": 3, "timeout": 600_000,
            "groupId": "g", "maxWait": 30,
        }  # fmt: skip
        assert api.calls[0].headers["authorization"] == "Bearer secret"
        assert api.calls[0].headers["idempotency-key"]
        assert capsys.readouterr() == ("task_1\n", "starts in about 1 min\n")

    def test_repeats_with_the_same_key(self, serve: Serve, tmp_path: Path, capsys: Captured) -> None:
        busy = (503, "服务暂不可用", {"Retry-After": "0"})
        api = serve({"POST /tasks": [busy, (429, "请求过于频繁", {"Retry-After": "0"}), busy, (200, CREATED)]})
        assert main(["submit", "--type", "2", "-f", job(tmp_path), "--json"]) == 0
        assert len({one.headers["idempotency-key"] for one in api.calls}) == 1
        found = capsys.readouterr()
        assert json.loads(found.out) == CREATED
        assert "服务暂不可用 (503); trying again" in found.err
        assert "请求过于频繁 (429); trying again" in found.err
        assert found.err.endswith("answers again\n")

    def test_says_how_to_find_what_may_be_created(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
    ) -> None:
        monkeypatch.setattr(server.Server.__init__, "__defaults__", (0.1,))
        api = serve({"POST /tasks": [(503, "服务暂不可用")]})
        assert main(["submit", "--type", "2"]) == 5
        key = api.calls[0].headers["idempotency-key"]
        assert f"--idempotency-key {key} with the same options" in capsys.readouterr().err
        assert main(["submit", "--type", "2", "--idempotency-key", key]) == 5
        assert {one.headers["idempotency-key"] for one in api.calls} == {key}

    def test_says_the_deadline_that_the_key_belongs_to(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
    ) -> None:
        monkeypatch.setattr(server.Server.__init__, "__defaults__", (0.1,))
        api = serve({"POST /tasks": [(503, "服务暂不可用")]})
        assert main(["submit", "--type", "2", "--deadline", "2h"]) == 5
        again = re.search(r"--idempotency-key \S+ with the same options, --deadline (\S+) ", capsys.readouterr().err)
        assert again is not None
        assert main(["submit", "--type", "2", "--deadline", again[1]]) == 5
        assert len({one.body["deadline"] for one in api.calls}) == 1

    def test_names_the_user_that_the_key_may_not_act_for(self, serve: Serve, capsys: Captured) -> None:
        serve({"POST /tasks": [(403, "权限不足: userId 必须是密钥的所有者")]})
        assert main(["submit", "--type", "2", "--user", "somebody"]) == 5
        assert "somebody is the user of this task; another one: --user" in capsys.readouterr().err

    def test_a_wait_that_is_too_long_is_an_answer(self, serve: Serve, tmp_path: Path, capsys: Captured) -> None:
        api = serve({"POST /tasks": [(429, "预计等待过长", {"Retry-After": "90"})]})
        assert main(["submit", "--type", "2", "--max-wait", "0s", "-f", job(tmp_path)]) == 5
        assert len(api.calls) == 1
        assert capsys.readouterr().err == "error: 预计等待过长 (429)\ntry again in 90 s\n"

    @pytest.mark.parametrize("content", ["", "{", "{'a': 1}", "NaN", b"\xff\xfe{}", "[1,]", "[" * 100_000])
    def test_a_file_that_is_no_json(self, serve: Serve, tmp_path: Path, content: str | bytes, capsys: Captured) -> None:
        api = serve({})
        assert main(["submit", "--type", "2", "-f", job(tmp_path, content)]) == 2
        assert not api.calls
        assert "job.json" in capsys.readouterr().err

    def test_a_file_that_is_not_there(self, serve: Serve, capsys: Captured) -> None:
        assert main(["submit", "--type", "2", "-f", "/nowhere/job.json"]) == 2
        assert "/nowhere/job.json" in capsys.readouterr().err

    @pytest.mark.parametrize("key", ["", "a b", "a\nb", "键"])
    def test_a_key_that_no_header_carries(self, key: str, capsys: Captured) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["submit", "--type", "2", "--idempotency-key", key])
        assert "printable ASCII" in capsys.readouterr().err

    def test_reads_standard_input(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        api = serve({"POST /tasks": [(200, CREATED)]})
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('\ufeff{"a": "中"}'.encode())))
        assert main(["submit", "--type", "2", "-f", "-"]) == 0
        assert api.calls[0].body["payload"] == '{"a": "中"}'

    def test_watches(self, serve: Serve, tmp_path: Path, capsys: Captured) -> None:
        serve({"POST /tasks": [(200, CREATED)], **WATCHED})
        assert main(["submit", "--type", "2", "-f", job(tmp_path), "--watch"]) == 0
        found = capsys.readouterr()
        assert found.out == '{"n": 1}\n'
        assert found.err.splitlines() == [
            "task_1",
            "waits, place 4, starts in about 1 min, 3 nodes: 3 full",
            "runs on gpu_001, 0 %",
            "runs on gpu_001, 65 %, about 40 s left",
            "COMPLETED after 2 s",
        ]


class TestWatch:
    def test_json_is_a_value_on_each_line(self, serve: Serve, capsys: Captured) -> None:
        serve(WATCHED)
        assert main(["watch", "task_1", "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["kind"] for one in lines] == ["snapshot", "status", "progress", "end"]
        assert lines[-1]["data"] == DONE

    @pytest.mark.parametrize(
        ("status", "reason", "expected"),
        [("FAILED", "FAILED", 1), ("TIMEOUT", "DEADLINE", 3), ("FAILED", "CANCELLED", 4)],
    )
    def test_the_exit_status_is_the_tasks(
        self, serve: Serve, status: str, reason: str, expected: int, capsys: Captured
    ) -> None:
        ended = TASK | {"status": status, "endReason": reason, "errorMessage": "why"}
        serve(
            {
                "GET /tasks/task_1/stream": [sse(("snapshot", ended), ("end", ended))],
                "GET /tasks/task_1": [(200, ended)],
            }
        )
        assert main(["watch", "task_1"]) == expected
        assert capsys.readouterr() == ("", f"{reason}: why\n")

    def test_goes_on_where_the_stream_breaks(self, serve: Serve, capsys: Captured) -> None:
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
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
    ) -> None:
        monkeypatch.setattr(server.Server.__init__, "__defaults__", (0.1,))
        away = {"GET /tasks/task_1/progress": [(500, "内部错误")], "GET /tasks/task_1": [(503, "服务暂不可用")]}
        serve({**WATCHED, **away})
        assert main(["watch", "task_1"]) == 0
        assert capsys.readouterr().err.endswith("its result can't be read: 服务暂不可用 (503)\nCOMPLETED after 2 s\n")
        assert main(["watch", "task_1", "--json"]) == 0
        end = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (end["kind"], end["data"]["status"]) == ("end", "COMPLETED")

    @pytest.mark.parametrize(("pressed_at", "state"), [("asked", "goes on"), ("_cancel", "may be cancelled")])
    def test_a_second_ctrl_c_says_what_is_known(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, pressed_at: str, state: str, capsys: Captured
    ) -> None:
        serve(WATCHED)
        monkeypatch.setattr(views.LineView, "show", interrupted)
        monkeypatch.setattr(following, "can_ask", lambda: True)
        monkeypatch.setattr(following, "asked", lambda _: True)
        monkeypatch.setattr(following, pressed_at, interrupted)
        assert main(["watch", "task_1"]) == 130
        assert f"task_1 {state}; to follow it, or to end it:" in capsys.readouterr().err

    def test_an_unknown_task(self, serve: Serve, capsys: Captured) -> None:
        serve({"GET /tasks/a%2Fb/stream": [(404, "任务不存在")]})
        assert main(["watch", "a/b"]) == 5
        assert capsys.readouterr().err.startswith("error: 任务不存在 (404)\ngpu-orchestrator tasks")


class TestTasks:
    def test_asks_for_what_fits(self, serve: Serve, capsys: Captured) -> None:
        api = serve({"GET /tasks": [(200, [TASK], {"X-Total-Count": "7"})]})
        before = time.time() * 1000
        assert main(["tasks", "--status", "failed", "--type", "2", "--since", "1h", "--end-reason", "poison"]) == 0
        query = dict(part.split("=") for part in api.calls[0].path.split("?")[1].split("&"))
        assert before - 3_600_000 - 1 <= int(query.pop("createdAfter")) <= time.time() * 1000 - 3_600_000
        assert query == {"status": "FAILED", "taskType": "2", "endReason": "POISON", "page": "1", "size": "20"}
        found = capsys.readouterr()
        assert "task_1" in found.out
        assert "\x1b" not in found.out
        assert found.err == "1 of 7 tasks\n"

    def test_turns_pages(self, serve: Serve, capsys: Captured) -> None:
        rows = [TASK | {"taskId": f"task_{number}"} for number in range(299)]
        api = serve({"GET /tasks": [(200, page) for page in (rows[:100], rows[99:199], rows[199:299])]})
        assert main(["tasks", "-n", "250", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == rows[:250]
        assert len(api.calls) == 3

    def test_shows_one(self, serve: Serve, capsys: Captured) -> None:
        serve(WATCHED | {"GET /tasks/task_1": [(200, TASK)]})
        assert main(["tasks", "task_1"]) == 0
        assert "waits    3 nodes: 3 full" in capsys.readouterr().out
        assert main(["tasks", "task_1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == TASK

    def test_a_reader_that_goes_away_is_no_error(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        serve({"GET /tasks": [(200, [TASK])]})

        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError

            def fileno(self) -> int:
                return os.open(os.devnull, os.O_WRONLY)

        monkeypatch.setattr(sys, "stdout", Gone())
        assert main(["tasks", "--json"]) == 141


OPERATION = {"operationId": "op_1", "kind": "RETRY", "state": "DONE", "matched": 3, "done": 2, "failed": 1}


class TestMany:
    def test_a_dry_run_counts(self, serve: Serve, capsys: Captured) -> None:
        api = serve(
            {"POST /tasks/retry": [(200, {"matched": 3})], "GET /tasks": [(200, [TASK], {"X-Total-Count": "2"})]}
        )
        assert main(["retry", "--failed", "--since", "1h", "--dry-run"]) == 0
        body = api.made("POST", "/tasks/retry")[0].body
        assert body["dryRun"] is True
        assert body["filter"]["status"] == "FAILED"
        assert "createdAfter" in body["filter"]
        assert "3 tasks would be retried, 2 of which were cancelled" in capsys.readouterr().err
        assert main(["retry", "--failed", "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"matched": 3}

    def test_waits_for_the_operation(self, serve: Serve, capsys: Captured) -> None:
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
        self,
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

    def test_ctrl_c_says_what_goes_on(self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        begun = {"operationId": "op_1", "matched": 3}
        serve({"POST /tasks/retry": [(200, begun)]})
        monkeypatch.setattr(many, "_until_done", interrupted)
        assert main(["retry", "--failed", "--json"]) == 130
        out, said = capsys.readouterr()
        assert json.loads(out) == begun
        assert "it goes on in the background: op_1, 3 tasks" in said

    @pytest.mark.parametrize("words", [["task_1"], ["task_1", "task_2"], ["--failed", "--since", "1h"]])
    def test_what_may_be_done_is_found_by_its_key(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: Captured
    ) -> None:
        api = serve({})
        with monkeypatch.context() as pressed:
            pressed.setattr(server.Server, "_send", interrupted)
            assert main(["retry", *words]) == 130
        again = re.search(r"--idempotency-key (\S+) with the same options(, --since \S+)? ", capsys.readouterr().err)
        assert again is not None
        since = (again[2] or "").strip(", ").split()
        monkeypatch.setattr(server.Server.__init__, "__defaults__", (0.1,))
        for name in ("POST /tasks/task_1/retry", "POST /tasks/retry"):
            api.answers[name] = [(503, "服务暂不可用")]
        for _ in range(2):
            assert main(["retry", *words, *since, "--idempotency-key", again[1], "-y"]) == 5
        assert {one.headers["idempotency-key"] for one in api.calls} == {again[1]}
        assert len({json.dumps(one.body) for one in api.calls}) == 1
        assert f"--idempotency-key {again[1]} with the same options" in capsys.readouterr().err

    def test_an_operation_is_found_when_none_of_its_tasks_is_left(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
    ) -> None:
        answers = [(200, {"matched": 0}), (200, {"operationId": "op_1", "matched": 3})]
        ended = (200, OPERATION | {"done": 3, "failed": 0})
        serve({"POST /tasks/cancel": answers, "GET /operations/op_1": [ended]})
        monkeypatch.setattr(output, "_keyboard", lambda: nullcontext(io.StringIO("y\n")))
        assert main(["cancel", "--type", "2", "--idempotency-key", "k"]) == 0
        assert "3 of 3 tasks cancelled" in capsys.readouterr().err

    def test_half_a_character_is_a_wrong_command(self, serve: Serve, capsys: Captured) -> None:
        api = serve({})
        assert main(["cancel", "task_1", "--reason", "\udcff"]) == 2
        assert capsys.readouterr().err.startswith("error: ")
        assert not api.calls

    @pytest.mark.parametrize("words", [[], ["task_1", "--all"], ["task_1", "--type", "2"], ["--all", "--user", "u"]])
    @pytest.mark.parametrize("command", ["cancel", "retry"])
    def test_a_choice_is_one(self, serve: Serve, command: str, words: list[str], capsys: Captured) -> None:
        api = serve({})
        assert main([command, *words]) == 2
        assert not api.calls
        assert capsys.readouterr().err.startswith("error: ")

    def test_all_is_said_in_so_many_words(self, serve: Serve) -> None:
        api = serve({"POST /tasks/cancel": [(200, {"matched": 0})]})
        assert main(["cancel", "--all", "--dry-run"]) == 0
        assert api.calls[0].body == {"filter": {"all": True}, "dryRun": True}

    def test_ids(self, serve: Serve, capsys: Captured) -> None:
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


class TestNodes:
    def test_lists_drains_undrains(self, serve: Serve, capsys: Captured) -> None:
        node = {
            "gpuId": "gpu_001",
            "status": "ACTIVE",
            "draining": True,
            "drain": {"remaining": 1, "reason": "更换风扇"},
        }
        api = serve(
            {
                "GET /gpus": [(200, [node])],
                "POST /gpus/gpu_001/drain": [(200, "GPU已停止接收新任务")],
                "POST /gpus/gpu_001/undrain": [(200, "GPU已恢复接收任务")],
            }
        )
        assert main(["nodes"]) == 0
        assert "1 left: 更换风扇" in capsys.readouterr().out
        assert main(["nodes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [node]
        assert main(["drain", "gpu_001", "--reason", "fan", "--deadline", "2030-01-01"]) == 0
        assert api.calls[-1].body == {"reason": "fan", "deadline": 1_893_456_000_000}
        assert main(["undrain", "gpu_001"]) == 0
        assert "GPU已恢复接收任务" in capsys.readouterr().err

    def test_a_drain_waits_until_a_node_is_empty(self, serve: Serve, capsys: Captured) -> None:
        def left(number: int) -> tuple[int, Any]:
            return 200, {"draining": True, "drain": {"remaining": number}}

        undrained = (200, {"draining": False, "drain": None})
        drained = {"POST /gpus/g/drain": [(200, "GPU已停止接收新任务")]}
        serve({**drained, "GET /gpus/g": [left(2), left(2), left(1), left(0)]})
        assert main(["drain", "g", "--reason", "fan", "--wait"]) == 0
        assert capsys.readouterr().err == "g: 2 left\ng: 1 left\ng: GPU已停止接收新任务\n"
        serve({**drained, "GET /gpus/g": [left(2), undrained]})
        assert main(["drain", "g", "--reason", "fan", "--wait", "--json"]) == 1
        assert json.loads(capsys.readouterr().out) == {"gpuId": "g", "message": "not draining any more"}

    def test_ctrl_c_leaves_a_node_draining(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
    ) -> None:
        serve({"POST /gpus/g/drain": [(200, "GPU已停止接收新任务")]})
        monkeypatch.setattr(drain, "_is_empty", interrupted)
        assert main(["drain", "g", "--reason", "fan", "--wait"]) == 130
        assert capsys.readouterr().err == "g: goes on draining; gpu-orchestrator undrain g ends that\n"
        assert main(["drain", "g", "--reason", "fan", "--wait", "--json"]) == 130
        assert "goes on draining" in json.loads(capsys.readouterr().out)["message"]

    def test_a_key_that_may_not(self, serve: Serve, capsys: Captured) -> None:
        serve({"GET /gpus": [(403, "权限不足")]})
        assert main(["nodes"]) == 5
        assert capsys.readouterr().err.startswith("error: 权限不足 (403)\nthe key may not do this")

    def test_the_moment_of_top(self, serve: Serve, capsys: Captured) -> None:
        node = {"gpuId": "gpu_001", "status": "ACTIVE"}
        metrics = {"gpu_status_counts": {"ACTIVE": 1}, "task_status_counts": {"QUEUED": 2}, "queue_lengths": {"2": 2}}
        answers: dict[str, list[Any]] = {
            "GET /monitoring/metrics": [(200, metrics)],
            "GET /monitoring/health": [(200, {"overall_health": "HEALTHY"})],
            "GET /gpus": [(200, [node], {"X-Total-Count": "1"})],
        }
        serve(answers)
        assert main(["top"]) == 0
        text = capsys.readouterr().out
        assert "gpu_001" in text
        assert "2 QUEUED" in text
        assert main(["top", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["nodes"] == [node]


def test_top_goes_on_while_the_server_is_away_and_asks_once_a_second() -> None:
    fleet, answers = Fleet("http://x"), [Unavailable(503, "服务暂不可用"), None]

    def away(server: Any, fleet: Fleet) -> None:
        if error := answers.pop(0):
            raise error

    assert top._try(away, None, fleet) == top.EVERY_S  # type: ignore[arg-type]
    assert fleet.note == "服务暂不可用 (503)"
    top._try(lambda server, fleet: None, None, fleet)  # type: ignore[arg-type]
    assert fleet.note == "服务暂不可用 (503)"  # another part has been read
    assert top._try(away, None, fleet) == top.EVERY_S  # type: ignore[arg-type]
    assert fleet.note == ""
    assert top.EVERY_S >= 1

    def busy(server: Any, fleet: Fleet) -> None:
        raise TooManyRequests(429, "请求过于频繁", 7)

    assert top._try(busy, None, fleet) == 7  # type: ignore[arg-type]
    assert fleet.note == "请求过于频繁 (429); trying again in 7 s"

    def refused(server: Any, fleet: Fleet) -> None:
        raise Forbidden(403, "权限不足")

    with pytest.raises(Forbidden):
        top._try(refused, None, fleet)  # type: ignore[arg-type]


def test_top_draws_at_once_and_after_each_refusal(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    api = serve({"GET /monitoring/metrics": [(503, "服务暂不可用")]})
    fleet, notes = Fleet(api.url), []

    class Screen(nullcontext[Any]):
        def __init__(self, **options: Any) -> None:
            super().__init__(self)

        def refresh(self) -> None:
            notes.append(fleet.note)

    monkeypatch.setattr("rich.live.Live", Screen)
    monkeypatch.setattr(top, "_follow", lambda *_: None)
    monkeypatch.setattr(top, "EVERY_S", 0.0)
    monkeypatch.setattr(top, "READS", (top._read_metrics, interrupted))
    assert top._live(profile.current(), fleet) == 0
    assert notes == ["", "服务暂不可用 (503)"]
    assert len(api.calls) == 1


class TestAnswers:
    def test_a_redirect_is_not_followed(self, serve: Serve, capsys: Captured) -> None:
        other = serve({"GET /gpus": [(200, [])]})
        api = serve({"GET /gpus": [(302, "moved", {"Location": f"{other.url}/api/v2/gpus"})]})
        assert main(["nodes"]) == 5
        assert len(api.calls) == 1
        assert not other.calls
        assert "(302)" in capsys.readouterr().err

    def test_a_server_that_is_not_ours(self, serve: Serve, capsys: Captured) -> None:
        serve({"GET /gpus": ["<html>"]})
        assert main(["nodes"]) == 5
        assert "not as the API does" in capsys.readouterr().err

    def test_a_disk_that_is_full(self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        serve({"GET /gpus": [(200, [])]})

        def full(text: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(output, "write", full)
        assert main(["nodes", "--json"]) == 5
        assert capsys.readouterr().err == "error: No space left on device\n"

    def test_nobody_there(self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        monkeypatch.setattr(server.Server.__init__, "__defaults__", (0.5,))
        monkeypatch.setenv(naming.URL, "http://127.0.0.1:1")
        assert main(["nodes"]) == 5
        said = capsys.readouterr().err
        assert "http://127.0.0.1:1: no answer: [Errno 111] Connection refused; trying again\n" in said
        assert said.endswith("gpu-orchestrator login URL changes the address\n")

    def test_nobody_is_signed_in(self, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
        monkeypatch.delenv(naming.KEY)
        assert main(["nodes"]) == 5
        assert "gpu-orchestrator login" in capsys.readouterr().err


def test_what_goes_to_this_machine_goes_to_no_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    api = serve({"POST /tasks/cancel": [(200, {"matched": 0})]})
    assert main(["cancel", "--all", "--dry-run"]) == 0
    assert api.calls

"""`submit`: what it creates, and what it says if that is not certain."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from gpu_orchestrator_client import calls
from tests.unit.command.samples import CREATED, WATCHED, Captured, Serve, job
from workers.cli import main


def test_prints_the_id_alone(serve: Serve, tmp_path: Path, capsys: Captured) -> None:
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


def test_repeats_with_the_same_key(serve: Serve, tmp_path: Path, capsys: Captured) -> None:
    busy = (503, "服务暂不可用", {"Retry-After": "0"})
    api = serve({"POST /tasks": [busy, (429, "请求过于频繁", {"Retry-After": "0"}), busy, (200, CREATED)]})
    assert main(["submit", "--type", "2", "-f", job(tmp_path), "--json"]) == 0
    assert len({one.headers["idempotency-key"] for one in api.calls}) == 1
    found = capsys.readouterr()
    assert json.loads(found.out) == CREATED
    assert "服务暂不可用 (503); trying again" in found.err
    assert "请求过于频繁 (429); trying again" in found.err
    assert found.err.endswith("answers again\n")


def test_says_how_to_find_what_may_be_created(serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(calls.call, "__defaults__", (0.1, calls.LEAST_TRIES))
    api = serve({"POST /tasks": [(503, "服务暂不可用")]})
    assert main(["submit", "--type", "2"]) == 5
    key = api.calls[0].headers["idempotency-key"]
    assert f"--idempotency-key {key} with the same options" in capsys.readouterr().err
    assert main(["submit", "--type", "2", "--idempotency-key", key]) == 5
    assert {one.headers["idempotency-key"] for one in api.calls} == {key}


def test_says_the_deadline_that_the_key_belongs_to(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(calls.call, "__defaults__", (0.1, calls.LEAST_TRIES))
    api = serve({"POST /tasks": [(503, "服务暂不可用")]})
    assert main(["submit", "--type", "2", "--deadline", "2h"]) == 5
    again = re.search(r"--idempotency-key \S+ with the same options, --deadline (\S+) ", capsys.readouterr().err)
    assert again is not None
    assert main(["submit", "--type", "2", "--deadline", again[1]]) == 5
    assert len({one.body["deadline"] for one in api.calls}) == 1


def test_names_the_user_that_the_key_may_not_act_for(serve: Serve, capsys: Captured) -> None:
    serve({"POST /tasks": [(403, "权限不足: userId 必须是密钥的所有者")]})
    assert main(["submit", "--type", "2", "--user", "somebody"]) == 5
    assert "somebody is the user of this task; another one: --user" in capsys.readouterr().err


def test_a_wait_that_is_too_long_is_an_answer(serve: Serve, tmp_path: Path, capsys: Captured) -> None:
    api = serve({"POST /tasks": [(429, "预计等待过长", {"Retry-After": "90"})]})
    assert main(["submit", "--type", "2", "--max-wait", "0s", "-f", job(tmp_path)]) == 5
    assert len(api.calls) == 1
    assert capsys.readouterr().err == "error: 预计等待过长 (429)\ntry again in 90 s\n"


@pytest.mark.parametrize("content", ["", "{", "{'a': 1}", "NaN", b"\xff\xfe{}", "[1,]", "[" * 100_000])
def test_a_file_that_is_no_json(serve: Serve, tmp_path: Path, content: str | bytes, capsys: Captured) -> None:
    api = serve({})
    assert main(["submit", "--type", "2", "-f", job(tmp_path, content)]) == 2
    assert not api.calls
    assert "job.json" in capsys.readouterr().err


def test_a_file_that_is_not_there(serve: Serve, capsys: Captured) -> None:
    assert main(["submit", "--type", "2", "-f", "/nowhere/job.json"]) == 2
    assert "/nowhere/job.json" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "键"])
def test_a_key_that_no_header_carries(key: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["submit", "--type", "2", "--idempotency-key", key])
    assert "printable ASCII" in capsys.readouterr().err


def test_reads_standard_input(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    api = serve({"POST /tasks": [(200, CREATED)]})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('\ufeff{"a": "中"}'.encode())))
    assert main(["submit", "--type", "2", "-f", "-"]) == 0
    assert api.calls[0].body["payload"] == '{"a": "中"}'


def test_watches(serve: Serve, tmp_path: Path, capsys: Captured) -> None:
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

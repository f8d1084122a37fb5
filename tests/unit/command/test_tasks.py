"""`tasks`: one task, or a list of them."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from tests.unit.command.samples import TASK, WATCHED, Captured, Serve
from workers.cli import main


def test_asks_for_what_fits(serve: Serve, capsys: Captured) -> None:
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


def test_turns_pages(serve: Serve, capsys: Captured) -> None:
    rows = [TASK | {"taskId": f"task_{number}"} for number in range(299)]
    api = serve({"GET /tasks": [(200, page) for page in (rows[:100], rows[99:199], rows[199:299])]})
    assert main(["tasks", "-n", "250", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows[:250]
    assert len(api.calls) == 3


@pytest.mark.parametrize("as_json", [False, True])
def test_ends_with_the_last_page_that_the_api_shows(serve: Serve, capsys: Captured, *, as_json: bool) -> None:
    rows = [TASK | {"taskId": f"task_{number}"} for number in range(300)]
    links = ['</x>; rel="first", </x>; rel="next"'] * 2 + ['</x>; rel="first", </x>; rel="prev"']
    inexact = {"X-Total-Count": "300", "X-Total-Count-Exact": "false"}
    shown = [(200, rows[100 * at : 100 * at + 100], {**inexact, "Link": link}) for at, link in enumerate(links)]
    api = serve({"GET /tasks": [*shown, (400, "page 超出范围")]})
    assert main(["tasks", "-n", "20000", "--app", "x", *(["--json"] if as_json else [])]) == 0
    found = capsys.readouterr()
    assert found.err == "only the newest 300 tasks that match can be listed: --before leads to older ones\n"
    assert found.out.count('"task_' if as_json else "task_") == 300
    assert len(api.calls) == 3


def test_a_total_that_was_not_counted_is_a_bound(serve: Serve, capsys: Captured) -> None:
    inexact = {"X-Total-Count": "10000", "X-Total-Count-Exact": "false", "Link": '</x>; rel="next"'}
    serve({"GET /tasks": [(200, [TASK], inexact)]})
    assert main(["tasks", "-n", "1", "--app", "x"]) == 0
    assert capsys.readouterr().err == "1 of more than 10000 tasks\n"


def test_shows_one(serve: Serve, capsys: Captured) -> None:
    serve(WATCHED | {"GET /tasks/task_1": [(200, TASK)]})
    assert main(["tasks", "task_1"]) == 0
    assert "waits    3 nodes: 3 full" in capsys.readouterr().out
    assert main(["tasks", "task_1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == TASK


@pytest.mark.parametrize("command", ["tasks --json", "tasks", "tasks task_1", "nodes"])
def test_a_reader_that_goes_away_is_no_error(serve: Serve, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    node = {"gpuId": "gpu_001", "status": "ACTIVE"}
    serve(WATCHED | {"GET /tasks": [(200, [TASK])], "GET /tasks/task_1": [(200, TASK)], "GET /gpus": [(200, [node])]})
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(command.split()) == 141

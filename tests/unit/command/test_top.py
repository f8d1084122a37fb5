"""`top`: the fleet at a glance."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest

from gpu_orchestrator_client.errors import Forbidden, TooManyRequests, Unavailable
from tests.unit.command.samples import Captured, Serve, interrupted
from workers.cli import main
from workers.command import profile, top
from workers.command.fleet import Fleet


def test_the_moment_of_top(serve: Serve, capsys: Captured) -> None:
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

"""`nodes`, `drain` and `undrain`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.command.samples import Captured, Serve, interrupted
from workers.cli import main
from workers.command import drain


def test_lists_drains_undrains(serve: Serve, capsys: Captured) -> None:
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


def test_a_drain_waits_until_a_node_is_empty(serve: Serve, capsys: Captured) -> None:
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


def test_ctrl_c_leaves_a_node_draining(serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    serve({"POST /gpus/g/drain": [(200, "GPU已停止接收新任务")]})
    monkeypatch.setattr(drain, "_is_empty", interrupted)
    assert main(["drain", "g", "--reason", "fan", "--wait"]) == 130
    assert capsys.readouterr().err == "g: goes on draining; gpu-orchestrator undrain g ends that\n"
    assert main(["drain", "g", "--reason", "fan", "--wait", "--json"]) == 130
    assert "goes on draining" in json.loads(capsys.readouterr().out)["message"]


def test_a_key_that_may_not(serve: Serve, capsys: Captured) -> None:
    serve({"GET /gpus": [(403, "权限不足")]})
    assert main(["nodes"]) == 5
    assert capsys.readouterr().err.startswith("error: 权限不足 (403)\nthe key may not do this")

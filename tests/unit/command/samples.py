"""Answers of the API to the commands, and what the tests of the commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_api import FakeApi, sse

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


def interrupted(*_: Any) -> Any:
    """Press Ctrl-C."""
    raise KeyboardInterrupt


def job(tmp_path: Path, content: str | bytes = '{"n": 1}') -> str:
    file = tmp_path / "job.json"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)

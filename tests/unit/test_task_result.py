"""A task's result as it is shown (§3.4): what the node reported, spliced into the answer, and the node's gpuId."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from api.schemas import task_result
from api.schemas.tasks import TaskResult


def shown(result: str | None) -> bytes:
    row: Any = SimpleNamespace(task_id="task_1", status="COMPLETED", result=result, gpu_id="gpu_图", completed_at=None)
    return task_result.shown(row)


@pytest.mark.parametrize(
    ("reported", "result"),
    [
        ("{}", {"gpuId": "gpu_图"}),
        (" { \n} ", {"gpuId": "gpu_图"}),
        ('{"a": "}", "b": {"gpuId": 1}}\n', {"a": "}", "b": {"gpuId": 1}, "gpuId": "gpu_图"}),
        ('{"gpuId": {"a": 1}, "b": [1e2]}', {"b": [100.0], "gpuId": "gpu_图"}),
        (r'{"\u0067puId": "mine"}', {"gpuId": "gpu_图"}),
        (r'{"a": "\"gpuId\":1"}', {"a": '"gpuId":1', "gpuId": "gpu_图"}),
        ("[1, {}]", {"value": [1, {}], "gpuId": "gpu_图"}),
        (" null", {"value": None, "gpuId": "gpu_图"}),
        ('"{}"', {"value": "{}", "gpuId": "gpu_图"}),
        (str(2**64 - 1), {"value": 2**64 - 1, "gpuId": "gpu_图"}),
    ],
)
def test_it_is_what_the_node_reported_and_where(reported: str, result: object) -> None:
    answer = json.loads(shown(reported), object_pairs_hook=once)
    assert answer == {
        "code": 200,
        "message": "success",
        "data": {"taskId": "task_1", "status": "COMPLETED", "result": result, "completedAt": None},
    }
    TaskResult.model_validate(answer["data"])


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_without_one_it_is_null() -> None:
    assert json.loads(shown(None))["data"]["result"] is None


@pytest.mark.parametrize("part", ["[],", '"",', "0.5,", '{"a":1},'])
def test_a_large_one_is_not_parsed(part: str) -> None:
    """Some 3 ms: Python's parser and its writer take 70 to 500."""
    text = '{"x":[' + part * (1024 * 1024 // len(part) - 10) + "0]}"
    started = time.thread_time()
    for _ in range(10):
        shown(text)
    assert (time.thread_time() - started) / 10 < 0.02

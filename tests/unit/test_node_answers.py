"""The end of an attempt as its node's answers describe it."""

from __future__ import annotations

from typing import Any

import pytest

from activities.node_answers import end_of
from infra.nodes.answer import NodeAnswer
from workflows.domain.attempt import End, Outcome


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ({"status": "failed", "error": "boom"}, End(Outcome.FAILED, "boom")),
        ({"status": "failed"}, End(Outcome.FAILED, "节点报告执行失败")),
        ({"status": "failed", "rejected": True, "error": "no face"}, End(Outcome.REJECTED, "no face")),
        ({"status": "canceled"}, End(Outcome.HANDED_BACK, "节点已取消该次执行")),
        ({"status": "processing"}, None),
        ({"status": "succeeded"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [200, 201])
def test_by_its_state(status: int, body: dict[str, Any], end: End | None) -> None:
    assert end_of(NodeAnswer(status, body)) == end


def test_an_output_is_the_result_as_the_node_wrote_it() -> None:
    answer = NodeAnswer(200, {"status": "succeeded", "output": {"a": 1}}, '{"a": 1, "a": 1.0}')
    assert end_of(answer) == End(Outcome.SUCCEEDED, result='{"a":1,"a":1.0}')


def test_an_output_that_no_result_may_be_is_a_failure() -> None:
    answer = NodeAnswer(200, {"status": "succeeded", "output": float("nan")}, "NaN")
    assert end_of(answer) == End(Outcome.FAILED, "节点返回的结果无法接受: 不是合法的JSON文本")


@pytest.mark.parametrize("status", [202, 400, 404, 500])
def test_other_answers_are_no_end(status: int) -> None:
    assert end_of(NodeAnswer(status, {"status": "succeeded", "output": 1}, "1")) is None

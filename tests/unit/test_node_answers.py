"""The end of an attempt as its node's answers describe it, and its stop."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from activities.node_answers import end_of, stop
from infra.nodes.address import NodeAddress
from infra.nodes.answer import NodeAnswer
from workflows.domain.attempt import End, Outcome
from workflows.messages import AttemptRef


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


async def test_a_cancel_waits_for_its_turn() -> None:
    turn = asyncio.Semaphore(1)
    cancel = AsyncMock(return_value=NodeAnswer(200, {"stopped": True}))
    other: Any = MagicMock(run=AsyncMock(), deliver=AsyncMock(), cancel=cancel)
    async with turn:
        stopping = asyncio.create_task(
            stop(other, other, other, MagicMock(spec=NodeAddress), AttemptRef("t", 1), turn=turn)
        )
        for _ in range(5):
            await asyncio.sleep(0)
        cancel.assert_not_awaited()
    assert await stopping is None
    cancel.assert_awaited_once()

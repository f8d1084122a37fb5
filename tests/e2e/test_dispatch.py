"""What goes to a node with a dispatch, and what users get to read of its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import Api
from tests.fake_node import FakeNode

MakeNode = Callable[..., Awaitable[FakeNode]]


async def test_a_dispatch_shows_the_secret_that_the_node_registered(api: Api, make_node: MakeNode) -> None:
    node = await make_node("dispatch_secret", [131], dispatchSecret="s3cret")  # pragma: allowlist secret
    task_id = await api.create(131)
    put = await node.next_put()
    assert put.headers["authorization"] == "Bearer s3cret"
    assert api.key not in str(put)
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")


@pytest.mark.parametrize(
    ("task_type", "answer", "reason"),
    [
        (
            132,
            {"status": "failed", "error": "CUDA out of memory" + "!" * 600, "detail": "10.0.0.1"},
            "CUDA out of memory",
        ),
        (133, {"status": "failed", "error": {"trace": "10.0.0.1"}, "detail": "10.0.0.1"}, "节点报告执行失败"),
    ],
)
async def test_users_read_the_error_of_a_failed_attempt_and_nothing_else(
    api: Api, make_node: MakeNode, task_type: int, answer: dict[str, object], reason: str
) -> None:
    node = await make_node(f"dispatch_{task_type}", [task_type])
    node.answer = (200, answer)
    task = await api.until(await api.create(task_type, maxRetries=0), "FAILED")
    assert task["errorMessage"].startswith(reason)
    assert len(task["errorMessage"]) <= 500
    assert "10.0.0.1" not in str(task)

"""The dispatch as the node gets it, and its answer as users read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg
import pytest

from tests.conftest import Api, eventually
from tests.fake_node import FakeNode


def nested(levels: int) -> list[object]:
    return [nested(levels - 1)] if levels > 1 else []


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
        (135, {"status": "failed", "error": "no face", "rejected": True}, "no face"),
        (136, {"status": "failed", "rejected": True}, "节点报告输入不可用"),
        (137, {"status": "succeeded", "output": {"x": "a\0b"}}, "节点返回的结果无法接受: 含有NUL字符"),
        (138, {"status": "succeeded", "output": nested(101)}, "节点返回的结果无法接受: 嵌套超过 100 层"),
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


async def test_an_address_that_is_no_longer_allowed_is_not_called(api: Api, make_node: MakeNode) -> None:
    """The operator has, in effect, narrowed NODE_NETWORKS since the node registered: it now is where our own API is."""
    node = await make_node("dispatch_forbidden", [134])

    async def sql(statement: str, *values: object) -> list[tuple[object, ...]]:
        url = api.stack.services.database_url.replace("postgresql+psycopg", "postgresql")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def refused() -> bool:
        return ("节点地址不再被允许",) in await sql("SELECT reason FROM attempts WHERE task_id = %s", task_id)

    await sql("UPDATE gpus SET port = %s WHERE gpu_id = %s", api.stack.settings.port, node.gpu_id)
    task_id = await api.create(134, maxRetries=0)
    await eventually(refused)
    assert node.puts.empty()
    assert (await api.get(f"/tasks/{task_id}"))["retryCount"] == 0  # the fault is not the task's
    await sql("UPDATE gpus SET port = %s WHERE gpu_id = %s", node.port, node.gpu_id)
    await api.succeed(await node.next_put(), {})
    await api.until(task_id, "COMPLETED")


async def test_without_an_endpoint_a_callers_trace_reaches_the_node_untouched(api: Api, make_node: MakeNode) -> None:
    node = await make_node("trace_plain", [991])
    theirs = f"00-{'4' * 32}-{'b' * 16}-01"
    body = {"taskType": 991, "userId": "user_001", "app": "tests", "payload": "{}"}
    await api.post("/tasks", body, headers={"traceparent": theirs})
    put = await node.next_put()
    assert put.headers["traceparent"] == theirs
    await api.succeed(put, {})
    await api.post("/tasks", body)
    put = await node.next_put()
    assert put.headers["traceparent"].startswith("00-")
    assert "4" * 32 not in put.headers["traceparent"]
    await api.succeed(put, {})

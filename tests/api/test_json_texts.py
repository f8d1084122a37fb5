"""Payloads and results travel as they were written, and are bounded by their bytes alone."""

from __future__ import annotations

import json
from itertools import count

import pytest

TYPES = count(2700)


@pytest.fixture
async def dispatched(api, make_node):
    """Makes a task of a payload, and answers the PUT that its node gets."""
    task_type = next(TYPES)
    node = await make_node(f"json_gpu_{task_type}", [task_type])

    async def make(payload="{}"):
        task = await api.post("/tasks", {"taskType": task_type, "userId": "u", "app": "a", "payload": payload})
        put = await node.next_put()
        assert put.task_id == task["taskId"]
        return put

    return make


@pytest.mark.parametrize(
    ("payload", "arrives"),
    [
        (' {"a" : [1e2, "图\\u0041"], "n": 123456789012345678901} \n', {"a": [100, "图A"], "n": 123456789012345678901}),
        ("[" * 100 + "]" * 100, None),
        ('{"a":' * 100 + "1" + "}" * 100, ...),
        ('{"a": "\\u0000"}', None),
        ('{"a": 1e999}', None),
        ("\x01" * 1000 + "\n\x85", None),
        ("[" + "[]," * 80_000 + "[]]", None),
    ],
    ids=range(7),
)  # fmt: skip
async def test_a_payload_arrives_as_it_was_written(dispatched, api, payload, arrives):
    """An object as such, anything else as a string (None); one nested deeply is compared with what a parser makes."""
    put = await dispatched(payload)
    expected = {"payload": payload} if arrives is None else json.loads(payload) if arrives is ... else arrives
    assert put.body["input"] == expected
    await api.succeed(put, {})


@pytest.mark.parametrize(
    "result",
    ["[" + "0.5," * 240_000 + "1]", '{"x":[' + "[]," * 300_000 + "1]}", "[" * 100 + "]" * 100],
    ids=["floats", "structure", "deep"],
)
async def test_a_result_is_bounded_by_its_bytes_alone(dispatched, api, result):
    put = await dispatched()
    await api.report(put, "result", {"result": result})
    await api.report(put, "result", {"result": result})
    await api.report(put, "result", {"result": f" {result}\n"})
    await api.report(put, "result", {"result": f'{result[:-1]},"y"]'}, code=400)
    await api.until(put.task_id, "COMPLETED")
    shown = (await api.get(f"/tasks/{put.task_id}/result"))["result"]
    value = json.loads(result)
    assert shown == (value if isinstance(value, dict) else {"value": value}) | {"gpuId": put.gpu_id}
    assert (await api.get(f"/tasks/{put.task_id}"))["result"] == result


async def test_a_result_too_deep_is_refused_by_its_name(dispatched, api):
    put = await dispatched()
    response = await api.http.post(f"/tasks/{put.task_id}/result", json={"result": "[" * 101 + "]" * 101})
    assert (response.status_code, response.json()["message"]) == (400, "请求参数错误: result 嵌套超过 100 层")
    await api.succeed(put, {})


async def test_a_payload_too_deep_is_refused_by_its_name(api):
    """No JSON, it is a text like any other."""
    body = {"taskType": 4999, "userId": "u", "app": "a"}
    deep = '{"a": ' + "[" * 100 + "]" * 100 + "}"
    response = await api.http.post("/tasks", json=body | {"payload": deep})
    assert (response.status_code, response.json()["message"]) == (400, "请求参数错误: payload 嵌套超过 100 层")
    for accepted in (deep.replace("[" * 100, "[" * 99).replace("]" * 100, "]" * 99), deep[:-1]):
        await api.post("/tasks", body | {"payload": accepted})

"""Payloads and results travel as they were written, and are bounded only by their bytes."""

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

    async def make(payload="{}", **more):
        task = await api.post("/tasks", {"taskType": task_type, "userId": "u", "app": "a", "payload": payload, **more})
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
    put = await dispatched(maxRetries=0)
    response = await api.http.post(f"/tasks/{put.task_id}/result", json={"result": "[" * 101 + "]" * 101})
    assert (response.status_code, response.json()["message"]) == (400, "请求参数错误: result 嵌套超过 100 层")


async def test_a_payload_too_deep_is_refused_by_its_name(api):
    """No JSON, it is a text like any other."""
    body = {"taskType": 4999, "userId": "u", "app": "a"}
    deep = '{"a": ' + "[" * 100 + "]" * 100 + "}"
    response = await api.http.post("/tasks", json=body | {"payload": deep})
    assert (response.status_code, response.json()["message"]) == (400, "请求参数错误: payload 嵌套超过 100 层")
    for accepted in (deep.replace("[" * 100, "[" * 99).replace("]" * 100, "]" * 99), deep[:-1]):
        await api.post("/tasks", body | {"payload": accepted})


REFUSED = [
    ({"result": "words"}, "不是合法的JSON文本"),
    ({"result": '{"text": "a\\u0000b"}'}, "含有NUL字符"),
    ({"result": "a\0b"}, "无效"),
    ({"result": "[" * 101 + "]" * 101}, "嵌套超过 100 层"),
    ({"result": "[1e999]"}, "含有超出范围的数字"),
    ({"result": {"text": "an object"}}, "必须是字符串"),
    ({"output": "{}"}, "缺失"),
    ({"result": [0] * 20_000}, "含有超过 20000 个JSON值"),
    ({"result": f'"{"x" * 1024 * 1024}"'}, "超过 1 MiB"),
]


@pytest.mark.parametrize(("body", "detail"), REFUSED, ids=[detail for _, detail in REFUSED])
@pytest.mark.parametrize("with_token", [True, False])
async def test_a_result_that_is_refused_fails_its_attempt_with_the_reason(dispatched, api, body, detail, with_token):
    put = await dispatched(maxRetries=0)
    for _ in range(2):
        await api.report(put, "result", body, code=400, token=with_token)
    task = await api.until(put.task_id, "FAILED")
    assert task["errorMessage"] == f"节点上报的结果无法接受: {detail}"
    await api.succeed(put, {}, code=400)


async def test_one_in_chunks_does_too(dispatched, api):
    put = await dispatched(maxRetries=0)

    async def chunks():
        yield b'{"result": "'
        for _ in range(40):
            yield b"x" * 32 * 1024

    headers = {"X-Attempt-Token": put.token, "Content-Type": "application/json"}
    await api.ask("POST", f"/tasks/{put.task_id}/result", code=400, content=chunks(), headers=headers)
    assert (await api.until(put.task_id, "FAILED"))["errorMessage"].endswith("超过 1 MiB")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [('{"result": "{}', "application/json"), ('["{}"]', "application/json"), ('{"result": "x"}', "text/plain")],
)
async def test_a_damaged_envelope_says_nothing_about_the_result(dispatched, api, content, content_type):
    put = await dispatched(maxRetries=0)
    headers = {"X-Attempt-Token": put.token, "Content-Type": content_type}
    await api.ask("POST", f"/tasks/{put.task_id}/result", code=400, content=content, headers=headers)
    await api.succeed(put, {})


async def test_what_others_say_of_an_attempt_does_not_fail_it(dispatched, api, make_caller):
    put = await dispatched(maxRetries=0)
    other = await make_caller("node", "other")
    stale = {"X-Attempt-Token": "stale"}
    for caller, headers in ((other, {}), (other, {"X-Attempt-Token": put.token}), (api, stale)):
        for body, _ in REFUSED:
            await caller.post(f"/tasks/{put.task_id}/result", body, code=400, headers=headers)
    user = await make_caller("user", "somebody")
    await user.post(f"/tasks/{put.task_id}/result", REFUSED[0][0], code=403)
    await user.post(f"/tasks/{put.task_id}/result", REFUSED[-1][0], code=400)
    await api.post("/tasks/task_none/result", REFUSED[0][0], code=400)
    await api.succeed(put, {})
    await api.until(put.task_id, "COMPLETED")


async def test_a_large_result_without_a_key_is_refused_for_its_size(api):
    response = await api.http.post("/tasks/task_none/result", json=REFUSED[-1][0], headers={"Authorization": ""})
    assert response.status_code == 400


LARGE = "x" * 1024 * 1024
UNSTORABLE_REPORTS = [
    ("a\0b\nc", "ab\nc"),
    ("\0", None),
    (["a", "list"], None),
    (f"start{LARGE}", "start"),
]


@pytest.mark.parametrize("with_token", [True, False])
@pytest.mark.parametrize(("message", "kept"), UNSTORABLE_REPORTS, ids=["characters", "nothing", "no text", "too large"])
async def test_a_failure_whose_message_is_refused_ends_its_attempt_all_the_same(
    dispatched, api, message, kept, with_token
):
    put = await dispatched(maxRetries=0)
    body = {"status": "FAILED", "gpuId": put.gpu_id, "message": message}
    for _ in range(2):
        await api.report(put, "status", body, code=400, token=with_token)
    task = await api.until(put.task_id, "FAILED")
    assert task["errorMessage"].startswith(kept or "节点报告执行失败")
    assert kept == "start" or task["errorMessage"] == (kept or "节点报告执行失败")


async def test_one_in_chunks_ends_it_too(dispatched, api):
    put = await dispatched(maxRetries=0)

    async def chunks():
        yield json.dumps({"status": "FAILED", "gpuId": put.gpu_id, "message": "start"})[:-2].encode()
        for _ in range(40):
            yield b"x" * 32 * 1024

    headers = {"X-Attempt-Token": put.token, "Content-Type": "application/json"}
    await api.ask("POST", f"/tasks/{put.task_id}/status", code=400, content=chunks(), headers=headers)
    assert (await api.until(put.task_id, "FAILED"))["errorMessage"].startswith("start")


async def test_a_task_that_is_handed_back_in_a_refused_report_runs_again(dispatched, api):
    put = await dispatched(maxRetries=0)
    await api.report(put, "status", {"status": "QUEUED", "gpuId": put.gpu_id, "message": "\0gone"}, code=400)
    events = await api.get(f"/tasks/{put.task_id}/events")
    assert "gone" in {event["reason"] for event in events}


async def test_a_refused_report_of_others_or_of_work_that_goes_on_ends_nothing(dispatched, api, make_caller):
    put = await dispatched(maxRetries=0)
    other = await make_caller("node", "another")
    failed = {"status": "FAILED", "gpuId": put.gpu_id, "message": "\0"}
    for caller, headers in ((other, {}), (other, {"X-Attempt-Token": put.token}), (api, {"X-Attempt-Token": "stale"})):
        for message in ("\0", LARGE):
            path = f"/tasks/{put.task_id}/status"
            await caller.post(path, failed | {"message": message}, code=400, headers=headers)
    await api.report(put, "status", failed | {"gpuId": "another_gpu"}, code=400)
    for message in ("\0", LARGE):
        await api.report(put, "status", failed | {"status": "PROCESSING", "message": message}, code=400)
    await api.succeed(put, {})
    await api.until(put.task_id, "COMPLETED")

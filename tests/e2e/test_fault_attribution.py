"""Fault attribution on the real stack: no careless caller takes a node out, and no bad node eats the queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.conftest import Api, MakeNode, eventually
from tests.e2e.conftest import side_by_side
from tests.fake_node import FakeNode, Put


@side_by_side
async def test_a_poison_task_ends_after_the_usual_retries_and_leaves_the_nodes_alone(
    api: Api, make_node: MakeNode
) -> None:
    nodes = {gpu_id: await make_node(gpu_id, [841]) for gpu_id in ("poison_1", "poison_2", "poison_3", "poison_4")}
    task_id = await api.create(841, maxRetries=9)
    tried: list[str] = []
    for number in range(4):

        async def dispatched() -> list[str]:
            return [gpu_id for gpu_id, node in nodes.items() if not node.puts.empty()]

        (gpu_id,) = await eventually(dispatched)
        tried.append(gpu_id)
        await api.say(await nodes[gpu_id].next_put(), "FAILED", f"segmentation fault at 0x7f{number}")
    assert len(set(tried)) == 4
    task = await api.until(task_id, "FAILED")
    assert task["errorMessage"] == "segmentation fault at 0x7f3（已在4个节点上以同样的方式失败，不再重试）"
    assert task["retryCount"] == 3

    async def excused() -> bool:
        return [(await api.get(f"/gpus/{gpu_id}"))["taskFailureCount"] for gpu_id in nodes] == [0] * 4

    await eventually(excused)
    assert {(await api.get(f"/gpus/{gpu_id}"))["status"] for gpu_id in nodes} == {"ACTIVE"}
    assert all(node.puts.empty() for node in nodes.values())
    await _has_the_full_history(api, task_id, tried)


async def _has_the_full_history(api: Api, task_id: str, tried: list[str]) -> None:
    """Every transition with its attempt, node, reason and actor, in order."""
    events = await api.get(f"/tasks/{task_id}/events")
    assert [event["seq"] for event in events] == list(range(1, 10))
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    transitions = [(event["from"], event["to"], event["attempt"], event["gpuId"]) for event in events]
    expected: list[tuple[str | None, str, int | None, str | None]] = [(None, "QUEUED", None, None)]
    for attempt, gpu_id in enumerate(tried, 1):
        expected.append(("QUEUED", "PROCESSING", attempt, gpu_id))
        expected.append(("PROCESSING", "FAILED" if attempt == 4 else "QUEUED", attempt, gpu_id))
    assert transitions == expected
    ends = [event for event in events if event["from"] == "PROCESSING"]
    assert [event["reason"] for event in ends[:3]] == [f"segmentation fault at 0x7f{n}" for n in range(3)]
    assert ends[-1]["reason"].startswith("segmentation fault at 0x7f3")
    assert events[0]["actor"].startswith("key:")
    assert {event["actor"] for event in ends} == {"workflow"}


@side_by_side
async def test_a_node_that_fails_what_others_complete_goes_faulty_and_gives_its_work_back(
    api: Api, make_node: MakeNode
) -> None:
    bad = await make_node("outlier_bad", [842], maxConcurrentTasks=9)
    task_ids = [await api.create(842) for _ in range(9)]
    puts = [await bad.next_put() for _ in task_ids]
    good = await make_node("outlier_good", [842], maxConcurrentTasks=9)
    for number, put in enumerate(puts[:8]):
        body = {"status": "FAILED", "gpuId": bad.gpu_id, "message": f"reason {number}"}
        said = await api.http.post(f"/tasks/{put.task_id}/status", json=body, headers={"X-Attempt-Token": put.token})
        assert said.status_code in {200, 400}  # fewer may be evidence enough: then the rest is taken from it
        await api.succeed(await good.next_put(), {})
    await api.gpu_until("outlier_bad", "FAULTY")
    (alert,) = [one for one in await api.alerts("outlier_bad") if one["level"] == "CRITICAL"]
    assert "而其他节点完成了这些任务" in alert["message"]
    assert (await api.get("/gpus/outlier_good"))["status"] == "ACTIVE"
    await api.succeed(await good.next_put(), {})  # the ninth, taken from the faulty node
    for task_id in task_ids:
        await api.until(task_id, "COMPLETED")


@asynccontextmanager
async def answering(api: Api, node: FakeNode, answer: Callable[[Put], Awaitable[Any]]) -> AsyncIterator[None]:
    """The node reports what `answer` says on each attempt."""

    async def for_ever() -> None:
        while True:
            await answer(await node.next_put(within=600))

    reporting = asyncio.create_task(for_ever())
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)


def raising(api: Api) -> Callable[[Put], Awaitable[Any]]:
    """Work that raises on a careless input, and completes any other."""

    async def answer(put: Put) -> None:
        if put.body["input"].get("careless"):
            await api.say(put, "FAILED", "ValueError: no such model")
        else:
            await api.succeed(put, {})

    return answer


@side_by_side
async def test_careless_inputs_end_with_their_reason_and_take_no_node_out(api: Api, make_node: MakeNode) -> None:
    names = [f"careless_{number}" for number in range(3)]
    async with AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(answering(api, await make_node(name, [843]), raising(api)))
        careless = [await api.create(843, json.dumps({"careless": True}), maxRetries=1) for _ in range(9)]
        honest = [await api.create(843, app="honest") for _ in range(9)]
        for task_id in honest:
            await api.until(task_id, "COMPLETED", within=40)
        for task_id in careless:
            task = await api.until(task_id, "FAILED", within=40)
            assert task["errorMessage"].startswith("ValueError: no such model")
    assert {(await api.get(f"/gpus/{name}"))["status"] for name in names} == {"ACTIVE"}


@side_by_side
async def test_a_lone_node_that_fails_task_after_task_rests_and_an_alert_says_so(api: Api, make_node: MakeNode) -> None:
    node = await make_node("lone", [844])
    async with answering(api, node, raising(api)):
        for _ in range(3):
            task_id = await api.create(844, json.dumps({"careless": True}), maxRetries=0)
            await api.until(task_id, "FAILED")
        assert (await api.get("/gpus/lone"))["taskFailureCount"] == 3
        (alert,) = await api.alerts("lone")
        assert (alert["level"], alert["message"].endswith("：ValueError: no such model")) == ("WARNING", True)
        await api.until(await api.create(844), "COMPLETED")
    gpu = await api.get("/gpus/lone")
    assert (gpu["status"], gpu["taskFailureCount"]) == ("ACTIVE", 0)


@side_by_side
async def test_recover_ends_a_rest(api: Api, make_node: MakeNode) -> None:
    node = await make_node("rested", [845])
    async with answering(api, node, raising(api)):
        for _ in range(9):
            task_id = await api.create(845, json.dumps({"careless": True}), maxRetries=0)

            async def ended(task_id: str = task_id) -> bool:
                await api.post("/gpus/rested/recover")
                return bool((await api.get(f"/tasks/{task_id}"))["status"] == "FAILED")

            await eventually(ended)
        await api.until(await api.create(845), "COMPLETED")


@side_by_side
async def test_what_the_work_rejects_is_asked_of_another_node_and_counts_against_none(
    api: Api, make_node: MakeNode
) -> None:
    nodes = {name: await make_node(name, [846]) for name in ("rejects_1", "rejects_2")}
    task_id = await api.create(846, maxRetries=3)

    async def dispatched() -> list[Put]:
        return [node.puts.get_nowait() for node in nodes.values() if not node.puts.empty()]

    (first,) = await eventually(dispatched)
    await api.say(first, "FAILED", "no face in the picture", rejected=True)
    (second,) = await eventually(dispatched)
    assert second.gpu_id != first.gpu_id
    await api.say(second, "FAILED", "no face in the picture", rejected=True)
    task = await api.until(task_id, "FAILED")
    assert (task["errorMessage"], task["retryCount"]) == ("no face in the picture（已有2个节点拒绝）", 0)
    for name in nodes:
        gpu = await api.get(f"/gpus/{name}")
        assert (gpu["status"], gpu["failureCount"], gpu["taskFailureCount"]) == ("ACTIVE", 0, 0)


@side_by_side
async def test_a_node_that_rejects_everything_costs_no_task_and_is_found(api: Api, make_node: MakeNode) -> None:
    honest, rejecting = await make_node("honest_147", [847]), await make_node("rejecting_147", [847])
    rejecting.answer = (422, {"error": "unprocessable"})
    async with answering(api, honest, lambda put: api.succeed(put, {})):
        task_ids = [await api.create(847) for _ in range(40)]
        for task_id in task_ids:
            await api.until(task_id, "COMPLETED", within=60)
    await api.gpu_until("rejecting_147", "FAULTY")
    assert (await api.get("/gpus/honest_147"))["status"] == "ACTIVE"


HTML = b"<html>It works!</html>"
OUTSIDE = {
    "html": (None, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n" + HTML),
    "204": (None, b"HTTP/1.1 204 No Content\r\n\r\n"),
    "302": (None, b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
    "401": ((401, {"error": "who are you"}), None),
    "500": ((500, {"error": "out of memory"}), None),
    "too long": ((200, {"status": "succeeded", "output": "x" * 70_000}), None),
    "no http": (None, b"SSH-2.0-OpenSSH_9.2\r\n"),
}


@side_by_side
async def test_answers_outside_of_the_protocol_end_the_task_with_their_reason(api: Api, make_node: MakeNode) -> None:
    async def tried(task_type: int, answer: tuple[int, dict[str, Any]] | None, garbled: bytes | None) -> None:
        name = f"outside_{task_type}"
        node = await make_node(name, [task_type])
        node.answer, node.garbled = answer or node.answer, garbled
        task = await api.until(await api.create(task_type, maxRetries=0), "FAILED", within=40)
        assert task["errorMessage"].startswith("节点的应答不符合节点协议（")
        assert task["errorMessage"].endswith("（已发生3次，不再派发）")
        (alert,) = await api.alerts(name)
        assert "应答不符合节点协议" in alert["message"]
        assert (await api.get(f"/gpus/{name}"))["status"] == "ACTIVE"

    await asyncio.gather(*(tried(850 + number, *how) for number, how in enumerate(OUTSIDE.values())))


@side_by_side
async def test_a_wrong_service_beside_an_honest_node_costs_no_task(api: Api, make_node: MakeNode) -> None:
    wrong, honest = await make_node("wrong_148", [848]), await make_node("honest_148", [848])
    wrong.garbled = OUTSIDE["html"][1]
    async with answering(api, honest, lambda put: api.succeed(put, {})):
        for task_id in [await api.create(848) for _ in range(10)]:
            await api.until(task_id, "COMPLETED", within=40)


@side_by_side
async def test_a_node_that_hands_everything_back_gets_ever_less_and_an_alert(api: Api, make_node: MakeNode) -> None:
    node = await make_node("hands_back", [849])
    handed: list[str] = []

    async def hand_back(put: Put) -> None:
        handed.append(put.run_id)
        await api.say(put, "QUEUED", "not now")

    async with answering(api, node, hand_back):
        task_id = await api.create(849)
        (alert,) = await eventually(lambda: api.alerts("hands_back"))
    assert "连续交回任务" in alert["message"]
    assert len(handed) == 3
    assert (await api.get(f"/tasks/{task_id}"))["status"] == "QUEUED"


@side_by_side
async def test_short_limits_end_their_tasks_and_are_no_fault_of_a_node(api: Api, make_node: MakeNode) -> None:
    node = await make_node("hurried", [858])
    for _ in range(4):
        task_id = await api.create(858, timeout=1, maxRetries=0)
        await node.next_put()
        task = await api.until(task_id, "TIMEOUT")
        assert task["errorMessage"] == "任务执行超时（时限1毫秒对该类型任务过短）"
    gpu = await api.get("/gpus/hurried")
    assert (gpu["status"], gpu["taskFailureCount"]) == ("ACTIVE", 0)
    assert not await api.alerts("hurried")


@side_by_side
async def test_a_node_that_calls_itself_defunct_is_heard_at_once(api: Api, make_node: MakeNode) -> None:
    node = await make_node("defunct", [859])
    node.answer, node.health, node.reason = (503, {}), "DEFUNCT", "the disk of /scratch is full"
    task_id = await api.create(859)
    (alert,) = await eventually(lambda: api.alerts("defunct"))
    assert alert["message"].endswith("（HTTP 503，DEFUNCT：the disk of /scratch is full）")
    node.answer = (202, {"status": "starting"})
    while (put := await node.next_put()).task_id != task_id or put.run_id.endswith("-1"):
        pass
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")

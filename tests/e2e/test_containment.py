"""Containment on the real stack: neither a poison task nor a bad node takes the fleet down."""

from __future__ import annotations

from tests.conftest import Api, MakeNode, eventually


async def test_a_poison_task_ends_after_the_usual_retries_and_leaves_the_nodes_alone(
    api: Api, make_node: MakeNode
) -> None:
    nodes = {gpu_id: await make_node(gpu_id, [141]) for gpu_id in ("poison_1", "poison_2", "poison_3", "poison_4")}
    task_id = await api.create(141, maxRetries=9)
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
    await _tells_the_whole_story(api, task_id, tried)


async def _tells_the_whole_story(api: Api, task_id: str, tried: list[str]) -> None:
    """Every edge with its attempt, node, reason and actor, in order."""
    events = await api.get(f"/tasks/{task_id}/events")
    assert [event["seq"] for event in events] == list(range(1, 10))
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    edges = [(event["from"], event["to"], event["attempt"], event["gpuId"]) for event in events]
    expected: list[tuple[str | None, str, int | None, str | None]] = [(None, "QUEUED", None, None)]
    for attempt, gpu_id in enumerate(tried, 1):
        expected.append(("QUEUED", "PROCESSING", attempt, gpu_id))
        expected.append(("PROCESSING", "FAILED" if attempt == 4 else "QUEUED", attempt, gpu_id))
    assert edges == expected
    ends = [event for event in events if event["from"] == "PROCESSING"]
    assert [event["reason"] for event in ends[:3]] == [f"segmentation fault at 0x7f{n}" for n in range(3)]
    assert ends[-1]["reason"].startswith("segmentation fault at 0x7f3")
    assert events[0]["actor"].startswith("key:")
    assert {event["actor"] for event in ends} == {"workflow"}


async def test_a_node_that_fails_what_others_complete_goes_faulty_and_gives_its_work_back(
    api: Api, make_node: MakeNode
) -> None:
    bad = await make_node("outlier_bad", [142], maxConcurrentTasks=7)
    task_ids = [await api.create(142) for _ in range(7)]
    puts = [await bad.next_put() for _ in task_ids]
    good = await make_node("outlier_good", [142], maxConcurrentTasks=7)
    for number, put in enumerate(puts[:6]):
        if number % 2:
            await api.say(put, "FAILED", f"reason {number}")
            await api.succeed(await good.next_put(), {})
        else:
            await api.succeed(put, {})
    gpu = await api.gpu_until("outlier_bad", "FAULTY")
    assert gpu["taskFailureCount"] < 3
    (alert,) = [one for one in await api.alerts("outlier_bad") if one["level"] == "CRITICAL"]
    assert "而其他节点完成了这些任务" in alert["message"]
    assert (await api.get("/gpus/outlier_good"))["status"] == "ACTIVE"
    await api.succeed(await good.next_put(), {})  # the seventh, taken from the faulty node
    for task_id in task_ids:
        await api.until(task_id, "COMPLETED")

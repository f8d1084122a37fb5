"""A life of tasks through foreign nodes, on the real stack."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.conftest import eventually
from tests.e2e.conftest import side_by_side
from tests.e2e.inside import is_started


@side_by_side
async def test_completes_with_progress_and_result(api, make_node):
    node = await make_node("life_ok", [101])
    task_id = await api.create(101, '{"input": "a.jpg"}', priority=2)
    put = await node.next_put()
    assert put.run_id == f"{task_id}-1"
    assert put.body["input"] == {"input": "a.jpg"}
    assert put.body["context"]["taskType"] == 101
    assert put.body["webhook"].endswith(f"/api/v2/tasks/{task_id}")
    await api.say(put, "PROCESSING", progress=65)
    assert (await api.get(f"/tasks/{task_id}"))["status"] == "PROCESSING"
    progress = await api.get(f"/tasks/{task_id}/progress")
    assert (progress["progress"], progress["gpuId"], progress["queuePosition"]) == (65, "life_ok", 0)
    assert (await api.get(f"/tasks/{task_id}/result"))["result"] is None
    assert (await api.get("/gpus/life_ok"))["currentTasks"] == 1
    await api.succeed(put, {"resultImages": ["r.jpg"]})
    task = await api.until(task_id, "COMPLETED")
    assert task["createdAt"] <= task["startedAt"] <= task["completedAt"]
    assert (await api.get(f"/tasks/{task_id}/result"))["result"] == {"resultImages": ["r.jpg"], "gpuId": "life_ok"}
    await api.succeed(put, {"resultImages": ["r.jpg"]})
    await api.succeed(put, {"resultImages": ["other.jpg"]}, code=400)
    assert (await api.get("/gpus/life_ok"))["currentTasks"] == 0


@side_by_side
async def test_a_synchronous_node_completes_at_once(api, make_node):
    node = await make_node("life_sync", [102])
    node.answer = (200, {"status": "succeeded", "output": {"n": 7}})
    task_id = await api.create(102)
    await api.until(task_id, "COMPLETED")
    assert (await api.get(f"/tasks/{task_id}/result"))["result"]["n"] == 7


@side_by_side
async def test_retries_then_fails_with_the_reason(api, make_node):
    node = await make_node("life_fail", [902])
    task_id = await api.create(902)
    for attempt in (1, 2):
        put = await node.next_put()
        assert put.run_id == f"{task_id}-{attempt}"
        await api.say(put, "FAILED", "CUDA out of memory")
        await api.say(put, "FAILED", "CUDA out of memory")
    task = await api.until(task_id, "FAILED")
    assert (task["errorMessage"], task["retryCount"]) == ("CUDA out of memory", 1)
    assert (await api.get("/gpus/life_fail"))["taskFailureCount"] == 2
    await api.succeed(put, {}, code=400)


@side_by_side
async def test_times_out(api, make_node):
    node = await make_node("life_slow", [901])
    task_id = await api.create(901)
    put = await node.next_put()
    task = await api.until(task_id, "TIMEOUT")
    assert task["errorMessage"]
    await api.succeed(put, {}, code=400)
    await eventually(lambda: _listed(node.canceled, put.run_id))


async def _listed(values, value):
    return value in values


@side_by_side
async def test_rejected_input_fails_without_a_retry(api, make_node):
    node = await make_node("life_reject", [103])
    node.answer = (422, {"detail": "no"})
    task = await api.until(await api.create(103), "FAILED")
    assert (task["retryCount"], node.puts.qsize()) == (0, 1)


@side_by_side
async def test_a_refusal_uses_up_no_retry(api, make_node):
    node = await make_node("life_busy", [104])
    node.answer = (503, {})
    task_id = await api.create(104)
    await node.next_put()
    node.answer = (202, {"status": "starting"})
    put = await node.next_put()
    await api.succeed(put, {"ok": True})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0


@side_by_side
async def test_a_refusal_of_a_repeated_dispatch_moves_nothing_that_the_node_runs(api, make_node, temporal):
    """Its first answer is lost, and a proxy in front of it answers the second time."""
    node = await make_node("life_proxy", [119])
    node.hold = asyncio.Event()
    task_id = await api.create(119)
    put = await node.next_put()
    other = await make_node("life_proxy_2", [119])
    node.answer = (503, {})
    await api.say(put, "PROCESSING")
    assert (await node.next_put()).run_id == put.run_id
    node.hold.set()
    await eventually(lambda: _dispatches_no_more(temporal, task_id))
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")
    assert [one["to"] for one in await api.get(f"/tasks/{task_id}/events")] == ["QUEUED", "PROCESSING", "COMPLETED"]
    assert (node.canceled, other.puts.qsize()) == ([], 0)


async def _dispatches_no_more(temporal, task_id):
    return not await _repeats_the_dispatch(temporal, task_id)


async def _repeats_the_dispatch(temporal, task_id):
    """Whether the first, local try of the dispatch was ambiguous."""
    description = await temporal.get_workflow_handle(f"task-{task_id}").describe()
    return [one.activity_type.name for one in description.raw_description.pending_activities] == ["dispatch"]


@side_by_side
async def test_a_dispatch_that_finds_nobody_is_repeated(api, make_node, temporal):
    node = await make_node("life_away", [114])
    node.hang_up()
    task_id = await api.create(114)
    await eventually(lambda: _repeats_the_dispatch(temporal, task_id))
    await node.start()
    put = await node.next_put()
    assert put.run_id == f"{task_id}-1"
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0


@pytest.mark.parametrize(("answer", "delay"), [((500, {}), 0), ((302, {}), 0), ((202, {}), 30)])
async def test_an_ambiguous_answer_is_followed_by_the_same_dispatch(api, make_node, temporal, answer, delay):
    node = await make_node("life_vague", [115])
    node.answer, node.delay = answer, delay
    task_id = await api.create(115)
    first = await node.next_put()
    node.answer, node.delay = (202, {"status": "starting"}), 0
    again = await node.next_put()
    assert (again.run_id, again.token) == (first.run_id, first.token)
    await api.succeed(again, {})
    task = await api.until(task_id, "COMPLETED")
    assert (task["retryCount"], task["gpuId"]) == (0, "life_vague")


@side_by_side
async def test_a_node_that_never_answers_a_dispatch_loses_it_to_another(api, make_node):
    first = await make_node("life_mute_1", [116])
    first.hang_up()
    task_id = await api.create(116)

    async def is_claimed():
        return (await api.get("/gpus/life_mute_1"))["currentTasks"] == 1

    await eventually(is_claimed)
    second = await make_node("life_mute_2", [116])
    put = await second.next_put(40)
    assert put.run_id == f"{task_id}-2"
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0
    assert (await api.get("/gpus/life_mute_1"))["failureCount"] == 1


@side_by_side
async def test_hand_back_goes_to_another_node(api, make_node):
    first = await make_node("life_back_1", [105])
    task_id = await api.create(105)
    put = await first.next_put()
    second = await make_node("life_back_2", [105])
    await api.say(put, "QUEUED", "draining")
    again = await second.next_put()
    await api.succeed(again, {})
    task = await api.until(task_id, "COMPLETED")
    assert (task["gpuId"], task["retryCount"]) == ("life_back_2", 0)


@side_by_side
async def test_fault_moves_work_and_recover_brings_the_node_back(api, make_node):
    first = await make_node("life_fault_1", [106])
    task_id = await api.create(106)
    put = await first.next_put()
    second = await make_node("life_fault_2", [106])
    await api.post("/gpus/life_fault_1/fault?reason=fan")
    assert (await api.get("/gpus/life_fault_1"))["status"] == "FAULTY"
    moved = await second.next_put()
    await api.succeed(put, {}, code=400)
    await api.succeed(moved, {"n": 2})
    assert (await api.until(task_id, "COMPLETED"))["gpuId"] == "life_fault_2"

    async def alert():
        alerts = await api.get("/monitoring/alerts?level=CRITICAL&size=100")
        return [one for one in alerts if "life_fault_1" in one["message"]]

    assert await eventually(alert)
    await api.post("/gpus/life_fault_1/heartbeat")
    assert (await api.get("/gpus/life_fault_1"))["status"] == "FAULTY"
    await api.post("/gpus/life_fault_1/recover")
    assert (await api.get("/gpus/life_fault_1"))["status"] == "ACTIVE"


@side_by_side
async def test_silence_moves_work_and_a_beat_brings_the_node_back(api, make_node):
    first = await make_node("life_silent_1", [107])
    task_id = await api.create(107)
    await first.next_put()
    second = await make_node("life_silent_2", [107])
    first.fall_silent()
    await api.gpu_until("life_silent_1", "OFFLINE")
    put = await second.next_put()
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0
    await api.post("/gpus/life_silent_1/heartbeat")
    assert (await api.get("/gpus/life_silent_1"))["status"] == "ACTIVE"


@side_by_side
async def test_a_silent_node_that_confirms_keeps_its_task_for_one_more_grace_only(api, make_node):
    first = await make_node("life_held_1", [108])
    await api.create(108)
    put = await first.next_put()
    first.known[put.run_id] = "processing"
    second = await make_node("life_held_2", [108])
    first.fall_silent()
    await api.gpu_until("life_held_1", "OFFLINE")
    assert second.puts.empty()
    await api.succeed(await second.next_put(), {})


@side_by_side
async def test_deregistration_moves_work(api, make_node):
    first = await make_node("life_gone_1", [109])
    task_id = await api.create(109)
    await first.next_put()
    second = await make_node("life_gone_2", [109])
    first.fall_silent()
    await api.ask("DELETE", "/gpus/life_gone_1")
    await api.get("/gpus/life_gone_1", code=404)
    await api.post("/gpus/life_gone_1/heartbeat", code=404)
    await api.succeed(await second.next_put(), {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0


@side_by_side
async def test_a_waiting_task_is_handed_the_freed_slot(api, make_node, temporal):
    node = await make_node("life_queue", [110])
    first, normal, vip = [await api.create(110, priority=priority) for priority in (1, 1, 2)]
    put = await node.next_put()
    assert put.task_id == first
    for task_id in (normal, vip):
        await eventually(partial(is_started, temporal, task_id))
    await api.succeed(put, {})
    put = await node.next_put()
    assert put.task_id == vip
    await api.succeed(put, {})
    put = await node.next_put()
    assert put.task_id == normal
    await api.succeed(put, {})
    await api.until(normal, "COMPLETED")


@side_by_side
async def test_the_workflow_is_visible_with_its_attributes(api, make_node, temporal):
    node = await make_node("life_seen", [112])
    task_id = await api.create(112)
    await api.succeed(await node.next_put(), {})
    await api.until(task_id, "COMPLETED")

    async def found():
        query = "TaskStatus='COMPLETED' AND TaskType=112 AND GpuId='life_seen' AND App='tests' AND UserId='user_001'"
        return [one.id async for one in temporal.list_workflows(query)]

    assert await eventually(found) == [f"task-{task_id}"]


@side_by_side
async def test_events_are_legal_and_without_a_gap(api, make_node):
    node = await make_node("life_events", [113])
    task_id = await api.create(113)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")  # a report that is quicker than the acceptance has no transition before it
    await api.say(put, "QUEUED")
    await api.succeed(await node.next_put(), {})
    await api.until(task_id, "COMPLETED")
    events = await api.get(f"/tasks/{task_id}/events")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["to"] for event in events] == ["QUEUED", "PROCESSING", "QUEUED", "PROCESSING", "COMPLETED"]
    assert all(event["actor"] for event in events)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_key(api, path):
    import httpx

    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{api.stack.api_url}{path}")).status_code == 200


@side_by_side
async def test_work_may_reject_its_input_by_report(api, make_node):
    node = await make_node("life_rejects", [159])
    task_id = await api.create(159)
    put = await node.next_put()
    body = {"status": "FAILED", "gpuId": put.gpu_id, "message": "no face found", "rejected": True}
    for _ in range(2):
        await api.report(put, "status", body)
    task = await api.until(task_id, "FAILED")
    assert (task["errorMessage"], task["retryCount"], node.puts.qsize()) == ("no face found", 0, 0)
    await api.report(put, "status", body)
    await api.report(put, "status", body | {"rejected": False}, code=400)

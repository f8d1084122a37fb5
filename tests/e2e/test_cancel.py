"""Cancelling a task, by REST and in Temporal; a slot is free when its process is gone, not before."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import WorkflowExecutionStatus

from tests.conftest import eventually
from tests.e2e.conftest import side_by_side
from tests.e2e.test_endings import closed_as, runs_of

CANCELED, FAILED = WorkflowExecutionStatus.CANCELED, WorkflowExecutionStatus.FAILED


async def cancel(api, task_id, **options):
    return await api.ask("POST", f"/tasks/{task_id}/cancel", **options)


async def running(api, gpu_id):
    return (await api.get(f"/gpus/{gpu_id}"))["currentTasks"]


@side_by_side
async def test_a_waiting_task_is_cancelled(api, temporal):
    task_id = await api.create(942)
    assert await cancel(api, task_id) == "任务已取消"
    task = await api.get(f"/tasks/{task_id}")
    assert (task["status"], task["endReason"], task["errorMessage"]) == ("FAILED", "CANCELLED", "任务已取消")
    assert await cancel(api, task_id, json={"reason": "twice"}) == "任务已取消"
    assert (await api.get(f"/tasks/{task_id}"))["errorMessage"] == "任务已取消"
    assert await closed_as(temporal, task_id) is CANCELED
    assert await runs_of(temporal, task_id) == 1
    events = await api.get(f"/tasks/{task_id}/events")
    assert [(one["from"], one["to"]) for one in events] == [(None, "QUEUED"), ("QUEUED", "FAILED")]
    assert events[-1]["actor"].startswith("key:")
    entries = await api.get("/audit?action=task.cancel&size=100")
    assert [one["outcome"] for one in entries if one["subject"] == task_id] == ["UNCHANGED", "DONE"]


@side_by_side
async def test_a_running_task_is_cancelled_and_its_slot_is_free_when_the_node_says_so(api, make_node, temporal):
    node = await make_node("cancels", [602])
    node.cancel_hold = asyncio.Event()
    task_id, then = await api.create(602), await api.create(602)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    await cancel(api, task_id, json={"reason": "not needed"})
    task = await api.get(f"/tasks/{task_id}")
    assert (task["status"], task["endReason"], task["gpuId"]) == ("FAILED", "CANCELLED", "cancels")
    assert task["errorMessage"] == "任务已取消：not needed"
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))
    await api.succeed(put, {"too": "late"}, code=400)
    assert await running(api, "cancels") == 1
    assert node.puts.empty()
    node.cancel_hold.set()
    assert (await node.next_put()).task_id == then
    assert await closed_as(temporal, task_id) is CANCELED
    assert await runs_of(temporal, task_id) == 1


@side_by_side
async def test_a_cancelled_task_is_nobodys_failure(api, make_node):
    node = await make_node("blameless", [603])
    task_id = await api.create(603)
    await node.next_put()
    await cancel(api, task_id)
    gpu = await api.get("/gpus/blameless")
    assert (gpu["failureCount"], gpu["taskFailureCount"], gpu["status"]) == (0, 0, "ACTIVE")


@side_by_side
async def test_a_task_that_pauses_before_a_retry_is_cancelled(api, make_node, temporal):
    node = await make_node("pausing", [604])
    task_id = await api.create(604)
    await api.say(await node.next_put(), "FAILED", "boom")
    await api.until(task_id, "QUEUED")
    await cancel(api, task_id)
    assert (await api.get(f"/tasks/{task_id}"))["endReason"] == "CANCELLED"
    assert await closed_as(temporal, task_id) is CANCELED
    assert node.puts.empty()


@side_by_side
async def test_what_has_ended_otherwise_is_not_cancelled(api, make_node):
    node = await make_node("ended", [605])
    task_id = await api.create(605)
    await api.succeed(await node.next_put(), {})
    await cancel(api, task_id, code=400)
    task = await api.until(task_id, "COMPLETED")
    assert task["endReason"] == "COMPLETED"
    await cancel(api, task_id, code=400)


@pytest.mark.parametrize(
    "body",
    [{"reason": ""}, {"reason": " "}, {"reason": "x" * 501}, {"reason": "a\nb"}, {"reason": 1}, []],
)
async def test_a_bad_reason_is_refused(api, body):
    task_id = await api.create(606)
    await cancel(api, task_id, json=body, code=400)
    await cancel(api, task_id)


@side_by_side
async def test_others_cannot_cancel(make_caller, api):
    owner, other = await make_caller("user", "user_001"), await make_caller("user", "user_002")
    task_id = await owner.create(607)
    await cancel(other, task_id, code=404)
    await cancel(await make_caller("node"), task_id, code=403)
    await cancel(owner, "task_unknown", code=404)
    await cancel(owner, task_id)


@side_by_side
async def test_a_person_cancels_a_running_workflow(api, make_node, temporal):
    node = await make_node("by_person", [608])
    task_id = await api.create(608)
    put = await node.next_put()
    await temporal.get_workflow_handle(f"task-{task_id}").cancel()
    task = await api.until(task_id, "FAILED")
    assert task["endReason"] == "CANCELLED"
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))
    assert await closed_as(temporal, task_id) is CANCELED
    events = await api.get(f"/tasks/{task_id}/events")
    assert events[-1]["actor"] == "temporal"
    entries = await api.get("/audit?owner=temporal&action=task.cancel&size=100")
    assert task_id in [one["subject"] for one in entries]
    await api.succeed(put, {}, code=400)
    await api.create(608)
    await node.next_put()


@side_by_side
async def test_a_person_cancels_a_workflow_that_has_not_begun(api, temporal):
    task_id = await api.create(609)
    handle = temporal.get_workflow_handle(f"task-{task_id}")
    await eventually(lambda: _exists(handle))
    await handle.cancel()
    assert (await api.until(task_id, "FAILED"))["endReason"] == "CANCELLED"
    assert await closed_as(temporal, task_id) is CANCELED


async def _exists(handle):
    try:
        return (await handle.describe()).run_id
    except Exception:  # noqa: BLE001
        return None


@side_by_side
async def test_a_node_that_does_not_say_stopped_is_given_two_seconds(api, make_node):
    node = await make_node("old_protocol", [610])
    node.cancel_answer = (200, {"status": "canceled"})
    task_id, then = await api.create(610), await api.create(610)
    await node.next_put()
    await cancel(api, task_id)
    began = asyncio.get_running_loop().time()
    assert (await node.next_put()).task_id == then
    assert 1.9 < asyncio.get_running_loop().time() - began < 5


@side_by_side
async def test_the_slot_of_a_timed_out_attempt_is_held_until_its_process_is_gone(api, make_node):
    node = await make_node("slow_to_stop", [943])
    node.cancel_hold = asyncio.Event()
    late = await api.create(943, timeout=500, maxRetries=0)
    then = await api.create(943)
    await node.next_put()
    await api.until(late, "TIMEOUT")
    assert (await running(api, "slow_to_stop"), node.puts.empty()) == (1, True)
    node.cancel_hold.set()
    assert (await node.next_put()).task_id == then


@side_by_side
async def test_a_retry_does_not_wait_for_the_old_node_to_stop(api, make_node):
    old = await make_node("stops_slowly", [612])
    old.cancel_hold = asyncio.Event()
    task_id = await api.create(612, timeout=1500, maxRetries=1)
    await old.next_put()
    other = await make_node("goes_on", [612])
    put = await other.next_put()  # at most ten seconds: the stop is given longer
    assert put.run_id == f"{task_id}-2"
    assert (await running(api, "stops_slowly"), old.canceled) == (1, [f"{task_id}-1"])
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")
    old.cancel_hold.set()

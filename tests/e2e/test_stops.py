"""Attempts that were closed while their node was away are stopped when it is back, before it gets new work."""

from __future__ import annotations

import asyncio

from temporalio.client import WorkflowExecutionStatus

from tests.conftest import eventually
from tests.e2e.conftest import side_by_side
from tests.e2e.test_cancel import cancel
from tests.e2e.test_endings import closed_as


@side_by_side
async def test_a_node_that_was_cut_off_during_a_cancel_is_asked_to_stop_before_it_gets_new_work(
    api, make_node, temporal
):
    node = await make_node("cut_off_then", [840])
    task_id = await api.create(840)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    node.fall_silent()
    node.hang_up()
    await cancel(api, task_id)
    await api.gpu_until("cut_off_then", "OFFLINE")
    assert await closed_as(temporal, task_id) is WorkflowExecutionStatus.CANCELED
    assert node.canceled == []
    then = await api.create(840)
    node.cancel_hold = asyncio.Event()
    await node.start()
    node.beat_with(lambda: api.http.post("/gpus/cut_off_then/heartbeat"))
    await eventually(lambda: asyncio.sleep(0, node.canceled == [put.run_id]))
    assert node.puts.empty()
    node.cancel_hold.set()
    again = await node.next_put(5)
    assert again.task_id == then
    await api.succeed(again, {})


@side_by_side
async def test_a_stop_is_repeated_while_its_node_is_cut_off_for_a_moment(api, make_node):
    node = await make_node("cut_off_shortly", [941])
    task_id = await api.create(941)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    node.hang_up()
    await cancel(api, task_id)
    await eventually(lambda: has_tried(api, "cut_off_shortly"))
    await node.start()
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))


async def has_tried(api, gpu_id):
    """The clock has freed the slot: the first try was over by then."""
    return (await api.get(f"/gpus/{gpu_id}"))["currentTasks"] == 0

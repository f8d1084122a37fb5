"""Cancels where something else goes wrong: nodes that stop slowly or answer anything, outages, many at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from temporalio.client import WorkflowExecutionStatus

from tests.conftest import eventually
from tests.e2e.conftest import side_by_side
from tests.e2e.inside import is_started, select
from tests.e2e.test_cancel import cancel, running
from tests.e2e.test_endings import closed_as
from tests.e2e.test_outages import stopped, without

CANCELED = WorkflowExecutionStatus.CANCELED
AT_ONCE, MANY = 20, 100  # calls under way together, and tasks of which half have a slot
STOPPED = {"status": "canceled", "stopped": True}
ANSWERS: dict[str, tuple[int, dict[str, Any]]] = {
    "slow": (200, STOPPED),
    "mute": (200, STOPPED),
    "broken": (500, STOPPED),
    "wordy": (200, {"stopped": "yes"}),
    "huge": (200, STOPPED | {"why": "x" * 200_000}),
    "at_first_broken": (500, STOPPED),
    "at_first_running": (200, {"stopped": False}),
}
SLOW_S = 2.5
FREE_WITHIN_S = {"slow": (2.3, 8), "huge": (1.9, 8), "mute": (9.5, 16), "broken": (9.5, 16), "wordy": (9.5, 16),
                 "at_first_broken": (0.9, 8), "at_first_running": (0.9, 8)}  # fmt: skip
"""Bounds from the cancel to the next dispatch, on a busy machine. An answer that is too long says nothing."""


@side_by_side
async def test_the_slot_is_free_after_ten_seconds_whatever_the_node_answers(api, make_node):
    async def one(task_type: int, kind: str) -> None:
        node = await make_node(f"{kind}_to_stop", [task_type])
        node.cancel_answer = ANSWERS[kind]
        node.cancel_hold = asyncio.Event() if kind in {"slow", "mute"} else None
        task_id, then = await api.create(task_type), await api.create(task_type)
        await node.next_put()
        await api.until(task_id, "PROCESSING")
        began = asyncio.get_running_loop().time()
        await cancel(api, task_id)
        if kind == "slow":
            asyncio.get_running_loop().call_later(SLOW_S, node.cancel_hold.set)
        if kind.startswith("at_first"):
            await eventually(lambda: asyncio.sleep(0, node.canceled))
            node.cancel_answer = (200, STOPPED)
        assert (await node.next_put(40)).task_id == then
        least, most = FREE_WITHIN_S[kind]
        assert least < asyncio.get_running_loop().time() - began < most, kind
        assert (await api.get(f"/gpus/{node.gpu_id}"))["status"] == "ACTIVE"

    task_types = (671, 672, 673, 674, 675, 950, 951)
    await asyncio.gather(*(one(number, kind) for number, kind in zip(task_types, ANSWERS, strict=True)))


@side_by_side
async def test_a_cancel_after_the_workflow_was_terminated_stops_the_node(api, make_node, temporal):
    node = await make_node("terminated", [741])
    task_id = await api.create(741)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    await temporal.get_workflow_handle(f"task-{task_id}").terminate("by a person")
    await cancel(api, task_id)
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))
    assert await closed_as(temporal, task_id) is CANCELED
    await eventually(lambda: is_free(api, "terminated"))


@side_by_side
async def test_a_deadline_after_the_workflow_was_terminated_stops_the_node(api, make_node, temporal):
    node = await make_node("terminated_too", [742])
    task_id = await api.create(742, deadline=time.time_ns() // 1_000_000 + 3000)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    await temporal.get_workflow_handle(f"task-{task_id}").terminate("by a person")
    assert (await api.until(task_id, "TIMEOUT"))["endReason"] == "DEADLINE"
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))
    assert await closed_as(temporal, task_id) is WorkflowExecutionStatus.FAILED


@side_by_side
async def test_what_a_silent_node_has_lost_is_stopped_before_it_gets_new_work(api, make_node):
    node = await make_node("back_again", [744])
    node.cancel_hold = asyncio.Event()
    task_id = await api.create(744)
    lost = await node.next_put()
    await api.until(task_id, "PROCESSING")
    node.fall_silent()
    await api.gpu_until("back_again", "OFFLINE")
    await api.until(task_id, "QUEUED")
    node.beat_with(lambda: api.http.post("/gpus/back_again/heartbeat"))
    await eventually(lambda: asyncio.sleep(0, node.canceled == [lost.run_id]))
    assert node.puts.empty()
    node.cancel_hold.set()
    again = await node.next_put(5)
    assert again.task_id == task_id
    await api.succeed(lost, {}, code=400)
    await api.succeed(again, {})


@side_by_side
async def test_a_node_that_answers_no_cancel_gets_work_ten_seconds_after_it_is_back(api, make_node):
    node = await make_node("back_and_mute", [745])
    node.cancel_hold = asyncio.Event()
    task_id = await api.create(745)
    await node.next_put()
    await api.until(task_id, "PROCESSING")
    node.fall_silent()
    await api.until(task_id, "QUEUED")
    node.beat_with(lambda: api.http.post("/gpus/back_and_mute/heartbeat"))
    await api.gpu_until("back_and_mute", "ACTIVE")
    began = asyncio.get_running_loop().time()
    await api.succeed(await node.next_put(), {})
    assert 8.0 < asyncio.get_running_loop().time() - began < 16.0


@side_by_side
async def test_a_task_goes_on_elsewhere_while_its_old_node_does_not_answer_the_stop(api, make_node, temporal):
    node = await make_node("hangs", [746])
    node.cancel_hold = asyncio.Event()
    task_id = await api.create(746)
    await node.next_put()
    await api.until(task_id, "PROCESSING")
    other = await make_node("goes_on", [746])
    await api.post("/gpus/hangs/fault?reason=fan")
    put = await other.next_put(4)  # the stop is given up after 4.5 s
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")
    assert await closed_as(temporal, task_id) is WorkflowExecutionStatus.COMPLETED
    assert len(node.canceled) >= 1


async def test_many_cancels_at_once(api, make_node, temporal, stack):
    node = await make_node("crowded", [676], maxConcurrentTasks=MANY // 2)
    turns = asyncio.Semaphore(AT_ONCE)

    async def taking_turns(call: Any) -> Any:
        async with turns:
            return await call

    payload = '"' + "x" * (256 * 1024 - 2) + '"'
    created = [api.create(676, *([payload] if n == 0 else [])) for n in range(MANY)]
    tasks = await asyncio.gather(*map(taking_turns, created))
    begun = [(await node.next_put()).task_id for _ in range(MANY // 2)]
    assert set(await asyncio.gather(*(taking_turns(cancel(api, one)) for one in tasks))) == {"任务已取消"}
    assert set(await asyncio.gather(*(taking_turns(closed_as(temporal, one)) for one in begun))) == {CANCELED}

    async def is_over() -> bool:
        """A task that was cancelled before the start of its workflow has none."""
        open_ones = await temporal.count_workflows("TaskType = 676 AND ExecutionStatus = 'Running'")
        return open_ones.count == 0 and await running(api, "crowded") == 0

    await eventually(is_over)
    left = "SELECT count(*)::int AS n FROM tasks WHERE task_type = 676 AND end_reason IS DISTINCT FROM 'CANCELLED'"
    assert await select(stack, left) == [{"n": 0}]


async def test_a_cancel_while_temporal_is_away_ends_the_row_at_once(api, make_node, temporal, stack):
    node = await make_node("cut_off", [677])
    begun, waiting = await api.create(677), await api.create(677)
    await node.next_put()
    await api.until(begun, "PROCESSING")
    await eventually(lambda: is_started(temporal, waiting))
    async with without(stack, "temporal"):
        for one in (begun, waiting):
            await cancel(api, one)
            assert (await api.get(f"/tasks/{one}"))["endReason"] == "CANCELLED"
    for one in (begun, waiting):
        assert await closed_as(temporal, one) is CANCELED
    await eventually(lambda: asyncio.sleep(0, node.canceled))


async def test_a_cancel_outlives_a_restart_of_postgres_and_of_every_program(api, make_node, temporal, stack):
    """The leader is among them. What it had to send is in the rows."""
    node = await make_node("restarted", [678])
    node.cancel_hold = asyncio.Event()
    task_id, then = await api.create(678), await api.create(678)
    await node.next_put()
    await api.until(task_id, "PROCESSING")
    async with without(stack, "postgres"):
        assert (await api.http.post(f"/tasks/{task_id}/cancel")).status_code == 503
    await cancel(api, task_id)
    for name in ("worker", "api"):
        stack.part(name).kill()
    assert (await node.next_put(60)).task_id == then
    node.cancel_hold.set()  # until then the stop is repeated
    assert await closed_as(temporal, task_id) is CANCELED


async def test_a_node_is_asked_to_stop_when_the_workers_come_back_after_its_slot_is_free(api, make_node, stack):
    node = await make_node("long_alone", [743])
    task_id, then = await api.create(743), await api.create(743)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    async with stopped(stack, "worker"):
        await cancel(api, task_id)
        await eventually(lambda: released(stack, task_id), within=30)
        assert node.canceled == []
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))
    assert (await node.next_put()).task_id == then


async def is_free(api, gpu_id):
    return await running(api, gpu_id) == 0


async def released(stack, task_id):
    return await select(stack, "SELECT task_id FROM attempts WHERE task_id = %s AND released_at IS NOT NULL", task_id)

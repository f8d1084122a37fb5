"""Short work is answered in its dispatch: what callers see, and what the histories show (ADR 0031)."""

from __future__ import annotations

import time

from temporalio.client import Client, WorkflowExecutionStatus

from activities.short_work import WAIT_S
from tests.conftest import Api, MakeNode, eventually
from tests.e2e.conftest import side_by_side
from tests.e2e.inside import signals, steps_of
from tests.fake_node import FakeNode
from workers.stack.stack import Stack

DONE = (200, {"status": "succeeded", "output": {"n": 1}})
ACCEPTED = (202, {"status": "starting"})


async def known_as_short(api: Api, node: FakeNode, task_type: int) -> None:
    """One task of the type, done at once: this is how long its work usually takes."""
    first = await api.create(task_type)
    put = await node.next_put()
    assert "prefer" not in put.headers
    await api.succeed(put, {})
    await api.until(first, "COMPLETED")


async def history_of(temporal: Client, task_id: str) -> list[str]:
    """The events of a workflow that has ended."""

    async def is_over() -> bool:
        described = await temporal.get_workflow_handle(f"task-{task_id}").describe()
        return described.status is WorkflowExecutionStatus.COMPLETED

    await eventually(is_over)
    return await steps_of(temporal, task_id)


@side_by_side
async def test_short_work_takes_one_workflow_task(api: Api, make_node: MakeNode, temporal: Client) -> None:
    node = await make_node("short_1", [151])
    await known_as_short(api, node, 151)
    node.answer, node.delay = DONE, 0.3
    task_id = await api.create(151)
    assert (await node.next_put()).headers["prefer"] == f"wait={WAIT_S}"
    task = await api.until(task_id, "COMPLETED")
    assert task["createdAt"] <= task["startedAt"] <= task["completedAt"] - 250
    assert task["result"] == '{"n":1}'
    assert [event["to"] for event in await api.get(f"/tasks/{task_id}/events")] == ["QUEUED", "PROCESSING", "COMPLETED"]
    steps = await history_of(temporal, task_id)
    assert steps.count("WORKFLOW_TASK_SCHEDULED") == 1
    assert not [step for step in steps if "SIGNALED" in step or "TIMER" in step]


@side_by_side
async def test_a_short_failure_is_retried(api: Api, make_node: MakeNode) -> None:
    node = await make_node("short_2", [152])
    await known_as_short(api, node, 152)
    node.answer = (200, {"status": "failed", "error": "boom"})
    task_id = await api.create(152)
    await node.next_put()
    node.answer = DONE
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 1


@side_by_side
async def test_a_node_that_says_that_it_runs_it_is_believed_before_it_answers(api: Api, make_node: MakeNode) -> None:
    node = await make_node("short_3", [153])
    await known_as_short(api, node, 153)
    node.answer, node.delay = DONE, 0.8
    task_id = await api.create(153)
    await api.say(await node.next_put(), "PROCESSING", progress=40)
    progress = await api.get(f"/tasks/{task_id}/progress")
    assert (progress["status"], progress["progress"]) == ("PROCESSING", 40)
    await api.until(task_id, "COMPLETED")


@side_by_side
async def test_a_node_that_does_not_wait_is_left_to_report(
    api: Api, make_node: MakeNode, temporal: Client, stack: Stack
) -> None:
    node = await make_node("short_4", [154])
    await known_as_short(api, node, 154)
    task_id = await api.create(154)
    put = await node.next_put()
    assert "prefer" in put.headers
    await eventually(lambda: shows(temporal, task_id, "PROCESSING"))
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")
    assert (await signals(stack, f"task-{task_id}"))["settled"] == 1


@side_by_side
async def test_the_wait_counts_towards_the_timeout(api: Api, make_node: MakeNode) -> None:
    node = await make_node("short_5", [155])
    await known_as_short(api, node, 155)
    node.delay = WAIT_S
    timeout_s = 3 * WAIT_S
    task_id = await api.create(155, timeout=1000 * timeout_s, maxRetries=0)
    put = await node.next_put()
    node.delay = 0  # it is asked at the deadline, too
    await api.say(put, "PROCESSING")
    began = time.monotonic()
    task = await api.until(task_id, "TIMEOUT")
    assert timeout_s - 0.1 < (task["completedAt"] - task["startedAt"]) / 1000 < timeout_s + 0.8 * WAIT_S
    assert time.monotonic() - began >= timeout_s - 0.5


@side_by_side
async def test_an_answer_that_is_lost_is_given_again(api: Api, make_node: MakeNode) -> None:
    """The node dies while it holds its answer, and is asked once more: nothing else knows how the work has ended."""
    node = await make_node("short_6", [156])
    await known_as_short(api, node, 156)
    node.answer, node.garbled = DONE, b" "
    task_id = await api.create(156)
    first = await node.next_put()
    node.garbled = None
    again = await node.next_put()
    assert (again.run_id, again.token, "prefer" in again.headers) == (first.run_id, first.token, False)
    task = await api.until(task_id, "COMPLETED")
    assert (task["retryCount"], task["result"]) == (0, '{"n":1}')


async def shows(temporal: Client, task_id: str, status: str) -> bool:
    """Whether the Web UI shows that status."""
    described = await temporal.get_workflow_handle(f"task-{task_id}").describe()
    found = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    return bool(found["TaskStatus"] == status)

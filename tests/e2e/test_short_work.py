"""Short work is waited for in its dispatch: what the histories show (ADR 0016).

On a busy machine a report may come after the second for which it is waited: what needs it in time is tried again.
"""

from __future__ import annotations

import time

from temporalio.client import Client, WorkflowExecutionStatus

from tests.conftest import Api, MakeNode, eventually
from tests.e2e.inside import select, signals, steps_of
from tests.fake_node import FakeNode, Put
from workers.stack.stack import Stack
from workflows.policies import WATCH

TRIES = 5
WATCH_S = WATCH.total_seconds()
TAKE_OVER = "UPDATE attempts SET watched_by = 'nobody' WHERE task_id = %s AND watched_by IS NOT NULL RETURNING attempt"


async def known_as_short(api: Api, node: FakeNode, task_type: int) -> None:
    """One task of the type, done at once: this is how long its work usually takes."""
    first = await api.create(task_type)
    await api.succeed(await node.next_put(), {})
    await api.until(first, "COMPLETED")


async def history_of(temporal: Client, task_id: str) -> list[str]:
    """The events of a workflow that has ended."""

    async def is_over() -> bool:
        described = await temporal.get_workflow_handle(f"task-{task_id}").describe()
        return described.status is WorkflowExecutionStatus.COMPLETED

    await eventually(is_over)
    return await steps_of(temporal, task_id)


async def test_short_work_takes_one_workflow_task(api: Api, make_node: MakeNode, temporal: Client) -> None:
    node = await make_node("short_1", [151])
    await known_as_short(api, node, 151)
    for _ in range(TRIES):
        task_id = await api.create(151)
        await api.succeed(await node.next_put(), {"n": 1})
        await api.until(task_id, "COMPLETED")
        steps = await history_of(temporal, task_id)
        if steps.count("WORKFLOW_TASK_SCHEDULED") == 1:
            break
    assert steps.count("WORKFLOW_TASK_SCHEDULED") == 1
    assert not [step for step in steps if "SIGNALED" in step or "TIMER" in step]


async def test_a_short_failure_is_retried(api: Api, make_node: MakeNode) -> None:
    node = await make_node("short_2", [152])
    await known_as_short(api, node, 152)
    task_id = await api.create(152)
    await api.say(await node.next_put(), "FAILED", "boom")
    await api.succeed(await node.next_put(), {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 1


async def test_work_that_takes_longer_is_waited_for_by_its_workflow(
    api: Api, make_node: MakeNode, temporal: Client, stack: Stack
) -> None:
    node = await make_node("short_3", [153])
    await known_as_short(api, node, 153)
    task_id = await api.create(153)
    put = await node.next_put()
    await eventually(lambda: shows(temporal, task_id, "PROCESSING"))
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")
    assert (await signals(stack, f"task-{task_id}"))["settled"] == 1


async def test_the_wait_counts_towards_the_timeout(api: Api, make_node: MakeNode) -> None:
    node = await make_node("short_4", [154])
    await known_as_short(api, node, 154)
    timeout_s = 3 * WATCH_S
    task_id = await api.create(154, timeout=int(1000 * timeout_s), maxRetries=0)
    began = time.monotonic()
    await api.until(task_id, "TIMEOUT")
    task = await api.get(f"/tasks/{task_id}")
    assert timeout_s - 0.1 < (task["completedAt"] - task["startedAt"]) / 1000 < timeout_s + 0.8 * WATCH_S
    assert time.monotonic() - began >= timeout_s


async def taken_over(api: Api, node: FakeNode, stack: Stack, task_type: int) -> Put:
    """A task of which the row says that somebody waits for its end who is no more, while its dispatch still waits."""
    for _ in range(TRIES):
        task_id = await api.create(task_type)
        put = await node.next_put()
        await api.until(task_id, "PROCESSING")
        if await select(stack, TAKE_OVER, task_id):
            return put
        await api.succeed(put, {})
        await api.until(task_id, "COMPLETED")
    raise AssertionError("no dispatch has waited")


async def test_a_notification_that_is_lost_delays_the_end_by_a_moment(
    api: Api, make_node: MakeNode, stack: Stack
) -> None:
    node = await make_node("short_5", [155])
    await known_as_short(api, node, 155)
    put = await taken_over(api, node, stack, 155)
    await api.succeed(put, {})
    await api.until(put.task_id, "COMPLETED", within=5 * WATCH_S)


async def shows(temporal: Client, task_id: str, status: str) -> bool:
    """Whether the Web UI shows that status, and the history has that number of events."""
    described = await temporal.get_workflow_handle(f"task-{task_id}").describe()
    found = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    return bool(found["TaskStatus"] == status)

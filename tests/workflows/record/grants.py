"""Tasks that wait for a slot."""

from __future__ import annotations

import asyncio

from temporalio.common import WorkflowIDConflictPolicy

from infra.settings import Settings
from tests.workflows.record.recorder import Recorder
from workflows.messages import TaskInput
from workflows.task import TaskWorkflow


async def granted_first(recorder: Recorder) -> None:
    """A task is granted a slot before its workflow's first step."""
    node = await recorder.node("brisk", 4)
    first = await recorder.api.create(4)  # shows how long such work takes
    await recorder.api.succeed(await node.next_put(), {})
    await recorder.api.until(first, "COMPLETED")
    await recorder.api.create(4)
    before = await node.next_put()
    await asyncio.sleep(1)  # longer than what is known of the free slots counts
    task = await recorder.api.create(4)
    for put in (before, None):
        await recorder.api.succeed(put or await node.next_put(), {})
    await recorder.keep_ended("task_granted_first", task)


async def granted_falsely(recorder: Recorder) -> None:
    """A waiting task is granted an attempt that there is not."""
    task = await recorder.api.create(8)
    await recorder.client.get_workflow_handle(f"task-{task}").signal("granted", {"attempt": 99, "gpu_id": "nobody"})
    await asyncio.sleep(1)
    node = await recorder.node("true", 8)
    await recorder.api.succeed(await node.next_put(), {})
    await recorder.keep_ended("task_granted_falsely", task)


async def waiting(recorder: Recorder) -> None:
    """A retry that finds no slot, and a run that a person's signal begins before its grant."""
    node = await recorder.node("full", 9)
    retried = await recorder.api.create(9)
    first = await node.next_put()
    other, begun = [await recorder.api.create(9) for _ in range(2)]
    await recorder.api.say(first, "FAILED", "boom")
    running = await node.next_put()
    await recorder.client.start_workflow(
        TaskWorkflow.run,
        TaskInput(begun, 9, "u", "a", 1, 1000, waits=True),
        id=f"task-{begun}",
        task_queue=Settings().task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        start_signal="look",
    )
    await asyncio.sleep(3)  # the backoff is over, and both wait
    await recorder.keep("task_retry_waiting", f"task-{retried}")
    await recorder.api.succeed(running, {})
    for _ in (begun, retried):
        await recorder.api.succeed(await node.next_put(), {})
    for name, task in (("task_retry_waited", retried), ("task_begun_by_a_signal", begun)):
        await recorder.keep_ended(name, task)
    await recorder.api.until(other, "COMPLETED")

"""Workflows that end as their tasks did, and requests to cancel."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy

from infra.db.session import Database
from infra.db.transactions import cancel_task
from infra.settings import Settings
from tests.db.rows import CREATOR
from tests.fake_node import FakeNode
from tests.workflows.record.recorder import Recorder
from workflows.messages import TaskInput
from workflows.task import TaskWorkflow


async def endings(recorder: Recorder) -> None:
    """Workflows that fail as their tasks did, and runs that find their task ended."""
    node = await recorder.node("ends", 902)
    failed = await recorder.api.create(902)
    for _ in range(2):
        await recorder.api.say(await node.next_put(), "FAILED", "boom")
    await recorder.api.until(failed, "FAILED")
    done = await recorder.api.create(902)
    await recorder.api.succeed(await node.next_put(), {})
    await recorder.api.until(done, "COMPLETED")
    late = await recorder.api.create(902, timeout=500, maxRetries=0)
    await node.next_put()
    await recorder.api.until(late, "TIMEOUT")
    await asyncio.sleep(1)
    for name, task in (("failed", failed), ("timed_out", late)):
        await recorder.keep(f"task_ended_{name}", f"task-{task}")
    for name, task in (("failed", failed), ("completed", done)):
        with suppress(WorkflowFailureError):
            await recorder.client.execute_workflow(
                TaskWorkflow.run,
                TaskInput(task, 902, "u", "a", 1, 1000),
                id=f"task-{task}",
                task_queue=Settings().task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            )
        await recorder.keep(f"task_found_{name}", f"task-{task}")


async def cancelled(recorder: Recorder) -> None:
    """Requests to cancel, wherever they meet the task.

    The version of 2026-11-29 let them end the run and not the task: its history is `task_cancel_ended_the_run`.
    """
    node = await recorder.node("cancels", 12)
    by_rest = await _on(recorder, node, 12)
    await recorder.api.post(f"/tasks/{by_rest}/cancel", {})
    by_person = await _on(recorder, node, 12)
    await _handle(recorder, by_person).cancel()
    unbegun, begun = await recorder.api.create(13), await _on(recorder, node, 12, "FAILED")
    for one in (begun, unbegun):
        await recorder.api.post(f"/tasks/{one}/cancel", {})
    unasked = await _on(recorder, node, 12)
    database = Database(recorder.api.stack.services.database_url, connections=1)
    await database.run(lambda c: cancel_task.cancel(c, CREATOR, unasked, None))
    await _handle(recorder, unasked).signal("settled", 1)  # the leader's request comes two seconds later
    await database.close()
    for name, one in {
        "running": by_rest, "by_a_person": by_person, "in_its_backoff": begun, "before_its_first_step": unbegun,
        "unasked": unasked,
    }.items():  # fmt: skip
        await _closed(recorder, one)
        await recorder.keep(f"task_cancelled_{name}", f"task-{one}")
    completed = await _on(recorder, node, 12, "COMPLETED")
    for name, one in (("completed", completed), ("cancelled", by_rest)):
        await _another_run(recorder, one, timedelta(days=1) if one == completed else timedelta())
        await _handle(recorder, one).cancel()
        await _closed(recorder, one)
        await recorder.keep(f"task_cancel_found_{name}", f"task-{one}")


def _handle(recorder: Recorder, task_id: str) -> WorkflowHandle[Any, Any]:
    return recorder.client.get_workflow_handle(f"task-{task_id}")


async def _on(recorder: Recorder, node: FakeNode, task_type: int, said: str = "PROCESSING") -> str:
    """A task of which the node has said something, and which has come so far."""
    task = await recorder.api.create(task_type)
    put = await node.next_put()
    if said == "FAILED":
        await recorder.api.say(put, said, "boom")
    elif said == "COMPLETED":
        await recorder.api.succeed(put, {})
    await recorder.api.until(task, "QUEUED" if said == "FAILED" else said)
    await asyncio.sleep(0.5 if said != "FAILED" else 0.2)
    return task


async def _another_run(recorder: Recorder, task_id: str, delay: timedelta) -> None:
    await recorder.client.start_workflow(
        TaskWorkflow.run,
        TaskInput(task_id, 12, "u", "a", 1, 1000, waits=bool(delay)),
        id=f"task-{task_id}",
        task_queue=Settings().task_queue,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        start_delay=delay or None,
    )
    await asyncio.sleep(0.5)


async def _closed(recorder: Recorder, task_id: str) -> None:
    with suppress(WorkflowFailureError):
        await _handle(recorder, task_id).result()

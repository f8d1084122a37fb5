"""Bulk operations, webhooks, retention; and runs that are continued as new."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from temporalio.client import WorkflowFailureError

from tests.receiver import Receiver
from tests.workflows.record.recorder import Recorder

LONGEST_REST_S = 90.0
"""Seconds within which a node that hands everything back gets work again."""


async def operation(recorder: Recorder) -> None:
    """A bulk retry of several pages, and a continue-as-new between two of them."""
    for number in range(60):
        await recorder.api.create(14, app="bulk", userId=f"user_{number % 2}")
    cancel = await recorder.api.post("/tasks/cancel", {"filter": {"app": "bulk"}})
    await _done(recorder, "operation_cancel", cancel["operationId"])
    retry = await recorder.api.post("/tasks/retry", {"filter": {"app": "bulk"}})
    await _done(recorder, "operation_retry", retry["operationId"])


async def operation_continued(recorder: Recorder) -> None:
    """Continue a bulk retry as new, on a server that soon suggests it."""
    for _ in range(700):
        await recorder.api.create(14, app="bulk")
    cancel = await recorder.api.post("/tasks/cancel", {"filter": {"app": "bulk"}})
    await _done(recorder, None, cancel["operationId"])
    workflow_id = f"operation-{(await recorder.api.post('/tasks/retry', {'filter': {'app': 'bulk'}}))['operationId']}"
    await _done(recorder, None, workflow_id.removeprefix("operation-"))
    await recorder.keep_runs("operation", workflow_id, await recorder.runs(workflow_id))


async def _done(recorder: Recorder, name: str | None, operation_id: str) -> None:
    """Waits until a bulk operation is done."""
    await recorder.client.get_workflow_handle(f"operation-{operation_id}").result()
    if name is not None:
        await recorder.keep(name, f"operation-{operation_id}")
    await asyncio.sleep(1)  # the list of runs lags behind


async def webhooks(recorder: Recorder) -> None:
    """A webhook that is paused, resumed and deleted, and one that a person cancels."""
    async with Receiver() as receiver:
        receiver.answers.append(500)
        body = {"url": receiver.url(), "events": ["task.ended"]}
        webhook_id, other = [(await recorder.api.post("/webhooks", body))["webhookId"] for _ in range(2)]
        await recorder.api.post(f"/webhooks/{webhook_id}/test")
        await asyncio.sleep(6)  # sent again, and the turn has ended
        await recorder.keep("webhook_idle", f"webhook-{webhook_id}")
        handle = recorder.client.get_workflow_handle(f"webhook-{webhook_id}")
        for name in ("pause", "resume"):
            await handle.signal(name)
            await recorder.api.post(f"/webhooks/{webhook_id}/test")
            await asyncio.sleep(4)
            await recorder.keep(f"webhook_{name}d", f"webhook-{webhook_id}")
        await recorder.api.ask("DELETE", f"/webhooks/{webhook_id}")
        await handle.result()
        await recorder.keep("webhook_deleted", f"webhook-{webhook_id}")
        receiver.usual = 500
        await recorder.api.post(f"/webhooks/{other}/test")
        await asyncio.sleep(2)
        handle = recorder.client.get_workflow_handle(f"webhook-{other}")
        await handle.cancel()
        with suppress(WorkflowFailureError):
            await handle.result()
        await recorder.keep("webhook_cancelled", f"webhook-{other}")


async def webhook_continued(recorder: Recorder) -> None:
    """Continue a paused webhook as new, on a server that soon suggests it."""
    async with Receiver() as receiver:
        made = await recorder.api.post("/webhooks", {"url": receiver.url(), "events": ["task.ended"]})
        workflow_id = f"webhook-{made['webhookId']}"
        await recorder.api.post(f"/webhooks/{made['webhookId']}/test")
        await asyncio.sleep(2)
        handle = recorder.client.get_workflow_handle(workflow_id)
        while len(runs := await recorder.runs(workflow_id)) < 2:
            await handle.signal("pause")
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        await recorder.keep_runs("webhook", workflow_id, runs)


async def retention(recorder: Recorder) -> None:
    """A run that forgets nothing."""
    await recorder.client.get_schedule_handle("retention").trigger()
    await asyncio.sleep(2)
    async for run in recorder.client.list_workflows("WorkflowType='RetentionWorkflow' AND ExecutionStatus='Completed'"):
        await recorder.keep("retention", run.id)


async def task_and_node_continued(recorder: Recorder) -> None:
    """Continue a task and a node as new in the middle of their lives, on a server that soon suggests it."""
    api = recorder.api
    node = await recorder.node("long", 1)
    task = await api.create(1)
    while len(runs := await recorder.runs(f"task-{task}")) < 2:
        await api.say(await node.next_put(LONGEST_REST_S), "QUEUED", "draining")
    await api.succeed(await node.next_put(LONGEST_REST_S), {"n": 1})
    await api.until(task, "COMPLETED")
    await asyncio.sleep(1)
    await recorder.keep_runs("task", f"task-{task}", runs)
    while len(runs := await recorder.runs("gpu-long")) < 2:
        await api.post("/gpus/long/fault?reason=fan")
        await api.post("/gpus/long/recover")
    await api.ask("DELETE", "/gpus/long")
    await asyncio.sleep(1)
    await recorder.keep_runs("node", "gpu-long", runs)

"""How a task waits, and where it is said why."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio.client import Client

from tests.conftest import Api, MakeNode, eventually
from tests.e2e.inside import is_started, steps_of
from tests.fake_node import FakeNode
from workflows.shown import WAITING


async def says(api: Api, task_id: str, end: str) -> None:
    """Wait until the progress says why there is no slot."""

    async def agreed() -> bool:
        reason: str = (await api.get(f"/tasks/{task_id}/progress"))["waiting"]["reason"]
        return reason.endswith(end)

    await eventually(agreed)


async def test_the_web_ui_says_that_it_waits_and_the_progress_why_also_when_the_fleet_changes(
    api: Api, make_node: MakeNode, temporal: Client
) -> None:
    node = await make_node("explained_1", [143])
    await api.create(143)
    running = await node.next_put()
    waiting = await api.create(143)
    await eventually(lambda: is_started(temporal, waiting))
    shown = await (await temporal.get_workflow_handle(f"task-{waiting}").describe()).static_details()
    assert shown == WAITING.format(task_id=waiting)
    await says(api, waiting, "1 full")
    await make_node("explained_2", [144])
    await api.post("/gpus/explained_1/fault?reason=fan")
    await says(api, waiting, "1 faulty")
    progress = (await api.get(f"/tasks/{waiting}/progress"))["waiting"]
    counts = ("otherType", "vipOnly", "barred", "full", "free", "faulty", "offline", "backedOff")
    assert progress["nodes"] == sum(progress[name] for name in counts)
    await eventually(lambda: _is_empty(api, "explained_1"))
    await api.succeed(running, {}, code=400)
    await api.post("/gpus/explained_1/recover")
    for _ in range(2):
        await api.succeed(await node.next_put(), {})
    await api.until(waiting, "COMPLETED")


BATCH = 4


async def test_the_workflow_of_a_task_that_waits_begins_with_its_grant(
    api: Api, make_node: MakeNode, temporal: Client
) -> None:
    node = await make_node("brisk", [146])
    await api.create(146)
    running = await node.next_put()
    batch = await asyncio.gather(*(api.create(146, priority=1) for _ in range(BATCH)))
    urgent = await api.create(146, priority=2)
    await eventually(lambda: is_started(temporal, urgent))
    assert await steps_of(temporal, urgent) == ["WORKFLOW_EXECUTION_STARTED"]
    await api.succeed(running, {})
    put = await node.next_put()
    assert put.task_id == urgent
    await api.until(urgent, "PROCESSING")
    steps = await steps_of(temporal, urgent)
    assert steps[1:3] == ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    assert steps.count("WORKFLOW_TASK_SCHEDULED") == 1
    await api.succeed(put, {})
    await drain(api, node, batch)


async def test_a_retry_that_finds_no_slot_waits_for_its_grant_without_a_timer(
    api: Api, make_node: MakeNode, temporal: Client
) -> None:
    node = await make_node("brisk_2", [147])
    retried = await api.create(147)
    first = await node.next_put()
    other = await api.create(147)
    await api.say(first, "FAILED", "boom")
    running = await node.next_put()
    assert running.task_id == other

    async def waits_again() -> bool:
        return "waiting" in await api.get(f"/tasks/{retried}/progress") and (
            await temporal.get_workflow_handle(f"task-{retried}").query("state")
        )["now"].startswith("waiting: ")

    await eventually(waits_again)
    assert (await steps_of(temporal, retried)).count("TIMER_STARTED") <= 2  # the deadline, and the backoff
    assert not (await temporal.get_workflow_handle(f"task-{retried}").describe()).raw_description.pending_activities
    await api.succeed(running, {})
    await drain(api, node, [retried])


async def drain(api: Api, node: FakeNode, tasks: list[str]) -> None:
    for _ in tasks:
        await api.succeed(await node.next_put(), {})
    for task_id in tasks:
        await api.until(task_id, "COMPLETED")


async def _is_empty(api: Api, gpu_id: str) -> bool:
    return bool((await api.get(f"/gpus/{gpu_id}"))["currentTasks"] == 0)


async def end_what_waits(api: Api) -> None:
    """Cancel the tasks that other files have left waiting."""
    begun = await api.post("/tasks/cancel", {"filter": {"status": "QUEUED"}})

    async def done() -> bool:
        return bool((await api.get(f"/operations/{begun['operationId']}"))["state"] == "DONE")

    await eventually(done)


async def test_a_type_that_no_node_runs_is_explained_and_alerted(api: Api, make_node: MakeNode) -> None:
    await end_what_waits(api)  # only some of the types that nobody serves are named
    await make_node("unserved_other", [144])
    await make_node("unserved_before", [145])  # a type that was served is named, whatever other files left waiting
    await api.ask("DELETE", "/gpus/unserved_before")
    task_id = await api.create(145)
    await says(api, task_id, "1 other type")
    await api.post("/monitoring/check")

    async def alerted() -> list[Any]:
        return await api.alerts(task_id)

    (alert,) = await eventually(alerted)
    assert (alert["level"], alert["status"]) == ("WARNING", "ACTIVE")
    assert "145" in alert["message"]
    node = await make_node("unserved_now", [145])
    await api.succeed(await node.next_put(), {})
    await api.until(task_id, "COMPLETED")


async def test_the_error_of_the_estimated_waits_is_a_metric(api: Api, make_node: MakeNode) -> None:
    node = await make_node("estimated", [146])
    task_id = await api.create(146)
    await api.succeed(await node.next_put(), {})
    await api.until(task_id, "COMPLETED")
    await api.post("/monitoring/check")

    async def measured() -> Any:
        estimates = (await api.get("/monitoring/health/queue"))["details"]["wait_estimates"]
        return estimates if estimates["samples"] else None

    estimates = await eventually(measured)
    assert set(estimates) == {"samples", "median_error_s", "p90_error_s", "bias_s"}
    assert 0 <= estimates["median_error_s"] <= estimates["p90_error_s"]

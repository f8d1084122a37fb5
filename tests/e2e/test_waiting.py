"""What a waiting task says: the same in its progress and in the Web UI, true while the fleet changes."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus

from infra.forecast import FRESH_S
from tests.conftest import Api, MakeNode, eventually
from tests.e2e.inside import steps_of


async def reasons(api: Api, temporal: Client, task_id: str) -> tuple[str, str]:
    """In the progress, and in the workflow's current details."""
    progress = await api.get(f"/tasks/{task_id}/progress")
    metadata: Any = await temporal.get_workflow_handle(f"task-{task_id}").query("__temporal_workflow_metadata")
    return progress["waiting"]["reason"], metadata.current_details


async def both_say(api: Api, temporal: Client, task_id: str, end: str) -> None:
    async def agreed() -> bool:
        told, shown = await reasons(api, temporal, task_id)
        return told.endswith(end) and shown == f"waiting: {told}"

    await eventually(agreed)


async def test_the_web_ui_says_what_the_progress_says_also_when_the_fleet_changes(
    api: Api, make_node: MakeNode, temporal: Client
) -> None:
    node = await make_node("explained_1", [143])
    await api.create(143)
    running = await node.next_put()
    waiting = await api.create(143)
    await both_say(api, temporal, waiting, "1 full")
    await make_node("explained_2", [144])
    await api.post("/gpus/explained_1/fault?reason=fan")
    await both_say(api, temporal, waiting, "1 faulty")
    progress = (await api.get(f"/tasks/{waiting}/progress"))["waiting"]
    counts = ("otherType", "vipOnly", "full", "free", "faulty", "offline", "backedOff")
    assert progress["nodes"] == sum(progress[name] for name in counts)
    await eventually(lambda: _is_empty(api, "explained_1"))
    await api.succeed(running, {}, code=400)
    await api.post("/gpus/explained_1/recover")
    for _ in range(2):
        await api.succeed(await node.next_put(), {})
    await api.until(waiting, "COMPLETED")


async def test_behind_short_work_the_first_step_is_put_off_until_the_grant(
    api: Api, make_node: MakeNode, temporal: Client
) -> None:
    node = await make_node("brisk", [146])
    first = await api.create(146)  # tells how long such work takes
    await api.succeed(await node.next_put(), {})
    await api.until(first, "COMPLETED")
    await api.create(146)
    running = await node.next_put()

    async def known_as_full() -> bool:
        waiting = (await api.get(f"/tasks/{patient}/progress")).get("waiting")
        return waiting is not None and waiting["full"] == 1

    patient = await api.create(146, priority=1)
    await eventually(known_as_full)
    brief = await api.create(146, priority=2)
    steps = await steps_of(temporal, brief)
    assert steps == ["WORKFLOW_EXECUTION_STARTED"]
    await api.succeed(running, {})
    put = await node.next_put()
    assert put.task_id == brief
    await api.succeed(put, {})
    await api.until(brief, "COMPLETED")
    await eventually(lambda: _is_over(temporal, brief))
    steps = await steps_of(temporal, brief)
    assert steps[1:3] == ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    assert steps.count("WORKFLOW_TASK_SCHEDULED") == 1  # its report is waited for in the dispatch, too
    await api.succeed(await node.next_put(), {})
    await api.until(patient, "COMPLETED")


async def test_without_a_grant_it_looks_for_itself(api: Api, make_node: MakeNode, temporal: Client) -> None:
    node = await make_node("brisk_2", [147])
    first = await api.create(147)
    await api.succeed(await node.next_put(), {})
    await api.until(first, "COMPLETED")
    await api.create(147)
    running = await node.next_put()
    await asyncio.sleep(FRESH_S)
    waiting = await api.create(147)
    assert await steps_of(temporal, waiting) == ["WORKFLOW_EXECUTION_STARTED"]
    await both_say(api, temporal, waiting, "1 full")
    for put in (running, None):
        await api.succeed(put or await node.next_put(), {})
    await api.until(waiting, "COMPLETED")


async def _is_over(temporal: Client, task_id: str) -> bool:
    described = await temporal.get_workflow_handle(f"task-{task_id}").describe()
    return described.status is WorkflowExecutionStatus.COMPLETED


async def _is_empty(api: Api, gpu_id: str) -> bool:
    return bool((await api.get(f"/gpus/{gpu_id}"))["currentTasks"] == 0)


async def test_a_type_that_no_node_runs_is_told_and_alerted(api: Api, make_node: MakeNode, temporal: Client) -> None:
    await make_node("unserved_other", [144])
    task_id = await api.create(145)
    await both_say(api, temporal, task_id, "1 other type")
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

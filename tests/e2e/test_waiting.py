"""What a waiting task says: the same in its progress and in the Web UI, true while the fleet changes."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio.client import Client

from infra.forecast import FRESH_S
from tests.conftest import Api, MakeNode, eventually
from tests.e2e.inside import steps_of
from tests.fake_node import FakeNode, Put


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


BATCH = 4  # the one that comes after them looks after 8 s


async def behind_a_batch(api: Api, node: FakeNode, task_type: int) -> tuple[Put, list[str], str]:
    """A node is busy, many tasks wait for it, and one that comes after them and before them: its PUT, they, the one."""
    await api.create(task_type)
    running = await node.next_put()
    await asyncio.sleep(FRESH_S)  # longer than what is known of the free slots counts
    batch = await asyncio.gather(*(api.create(task_type, priority=1) for _ in range(BATCH)))
    return running, batch, await api.create(task_type, priority=2)


async def test_in_a_batch_the_first_step_is_put_off_until_the_grant(
    api: Api, make_node: MakeNode, temporal: Client
) -> None:
    node = await make_node("brisk", [146])
    running, batch, urgent = await behind_a_batch(api, node, 146)
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


async def test_without_a_grant_each_of_a_batch_looks_for_itself(
    api: Api, make_node: MakeNode, temporal: Client
) -> None:
    node = await make_node("brisk_2", [147])
    running, batch, urgent = await behind_a_batch(api, node, 147)
    await both_say(api, temporal, batch[0], "1 full")
    await both_say(api, temporal, urgent, "1 full")
    await api.succeed(running, {})
    await drain(api, node, [urgent, *batch])


async def drain(api: Api, node: FakeNode, tasks: list[str]) -> None:
    for _ in tasks:
        await api.succeed(await node.next_put(), {})
    for task_id in tasks:
        await api.until(task_id, "COMPLETED")


async def _is_empty(api: Api, gpu_id: str) -> bool:
    return bool((await api.get(f"/gpus/{gpu_id}"))["currentTasks"] == 0)


async def test_a_type_that_no_node_runs_is_told_and_alerted(api: Api, make_node: MakeNode, temporal: Client) -> None:
    await make_node("unserved_other", [144])
    await make_node("unserved_before", [145])  # a type that was served is named, whatever other files left waiting
    await api.ask("DELETE", "/gpus/unserved_before")
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

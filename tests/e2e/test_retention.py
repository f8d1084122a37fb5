"""The retention on the real stack: what is aged by SQL is forgotten by the schedule's next run."""

from __future__ import annotations

from infra.temporal import schedules
from infra.temporal.schedules import RETENTION
from tests.conftest import eventually
from tests.e2e.inside import select
from workflows.retention import RetentionWorkflow

AGE = """
    UPDATE tasks SET created_at = created_at - age, started_at = started_at - age, completed_at = completed_at - age
      FROM make_interval(days => %s) AS age WHERE task_id = %s RETURNING task_id
    """


async def aged(stack, task_id, days):
    assert await select(stack, AGE, days, task_id)


async def completed(api, node, task_type):
    task_id = await api.create(task_type)
    await api.succeed(await node.next_put(), {"good": True})
    await api.until(task_id, "COMPLETED")
    return task_id


async def is_notified(stack, task_id):
    return not await select(stack, "SELECT FROM outbox_ends WHERE task_id = %s", task_id)


async def test_payloads_are_forgotten_and_later_the_tasks(api, make_node, stack, temporal):
    node = await make_node("retained", [800])
    purged, gone, kept = [await completed(api, node, 800) for _ in range(3)]
    await aged(stack, purged, 8)
    await aged(stack, gone, 31)
    await temporal.get_schedule_handle(RETENTION).trigger()

    async def is_forgotten():
        return (await api.get(f"/tasks/{purged}"))["purged"]

    await eventually(is_forgotten)
    task = await api.get(f"/tasks/{purged}")
    assert (task["payload"], task["result"], task["status"]) == (None, None, "COMPLETED")
    assert (await api.get(f"/tasks/{purged}/result"))["result"] is None
    await api.ask("GET", f"/tasks/{gone}", code=404)
    listed = await api.get("/tasks?taskType=800")
    assert {one["taskId"]: (one["purged"], "omitted" in one) for one in listed} == {
        purged: (True, False),
        kept: (False, False),
    }
    assert (await api.get(f"/tasks/{kept}"))["result"] is not None
    assert [one["to"] for one in await api.get(f"/tasks/{purged}/events")] == ["QUEUED", "PROCESSING", "COMPLETED"]


async def test_a_task_without_its_payload_is_not_retried(api, stack, temporal):
    task_id = await api.create(949)
    await api.post(f"/tasks/{task_id}/cancel")
    await eventually(lambda: is_notified(stack, task_id))
    await aged(stack, task_id, 8)
    await temporal.get_schedule_handle(RETENTION).trigger()

    async def is_forgotten():
        return (await api.get(f"/tasks/{task_id}"))["purged"]

    await eventually(is_forgotten)
    await api.ask("POST", f"/tasks/{task_id}/retry", code=400)


async def test_a_pause_of_a_schedule_outlives_the_start_of_a_worker(temporal):
    async def registered(interval_s):
        await schedules._register(temporal, "paused_by_a_person", RetentionWorkflow, "nobody", interval_s)
        return (await handle.describe()).schedule

    handle = temporal.get_schedule_handle("paused_by_a_person")
    assert not (await registered(3600)).state.paused
    try:
        await handle.pause(note="maintenance")
        schedule = await registered(7200)
        assert (schedule.state.paused, schedule.state.note) == (True, "maintenance")
        assert [each.every.total_seconds() for each in schedule.spec.intervals] == [7200]
    finally:
        await handle.delete()

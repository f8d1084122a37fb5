"""Changing the priority of a task that waits."""

from __future__ import annotations

from workflows.domain.key_limits import KeyLimits


async def change(api, task_id, priority=3, code=200):
    return await api.ask("PATCH", f"/tasks/{task_id}", json={"priority": priority}, code=code)


async def place(api, task_id):
    return (await api.get(f"/tasks/{task_id}/progress"))["queuePosition"]


async def test_a_raised_task_runs_next(api, make_node):
    node = await make_node("raises", [650])
    first, second, third = [await api.create(650) for _ in range(3)]
    put = await node.next_put()
    await api.until(first, "PROCESSING")
    assert await place(api, third) == 2
    assert await change(api, third) == "任务优先级已更新"
    assert await change(api, third) == "任务优先级已更新"
    assert (await place(api, third), await place(api, second)) == (1, 2)
    assert (await api.get(f"/tasks/{third}"))["priority"] == 3
    await change(api, first, code=400)
    await api.succeed(put, {})
    put = await node.next_put()
    assert put.task_id == third
    events = await api.get(f"/tasks/{third}/events")
    assert [(one["from"], one["to"]) for one in events[:2]] == [(None, "QUEUED"), ("QUEUED", "QUEUED")]
    entries = await api.get("/audit?action=task.priority&size=100")
    assert [(one["outcome"], one["detail"]) for one in entries if one["subject"] == third] == [
        ("UNCHANGED", "3"), ("DONE", "1 → 3")]  # fmt: skip
    await api.succeed(put, {})
    await api.until(third, "COMPLETED")
    await change(api, third, code=400)
    await api.succeed(await node.next_put(), {})
    await api.until(second, "COMPLETED")


async def test_a_task_that_pauses_before_a_retry(api, make_node):
    node = await make_node("pauses", [651])
    task_id = await api.create(651)
    await api.say(await node.next_put(), "FAILED", "boom")
    await api.until(task_id, "QUEUED")
    await change(api, task_id)
    await api.succeed(await node.next_put(), {})
    assert (await api.until(task_id, "COMPLETED"))["priority"] == 3


async def test_who_may_and_how_far(api, make_caller):
    owner = await make_caller("user", "raiser", limits=KeyLimits(max_priority=4))
    task_id = await owner.create(652, userId="raiser")
    await change(owner, task_id, 4)
    await change(owner, task_id, 5, code=400)
    await change(await make_caller("user", "another"), task_id, code=404)
    await change(await make_caller("node"), task_id, code=403)
    await change(await make_caller("operator"), task_id, 9)
    await change(owner, "task_unknown", code=404)
    await owner.ask("PATCH", f"/tasks/{task_id}", json={"status": "FAILED"}, code=400)
    assert (await owner.get(f"/tasks/{task_id}"))["priority"] == 9
    await owner.post(f"/tasks/{task_id}/cancel")

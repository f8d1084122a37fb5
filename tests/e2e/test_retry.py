"""Retrying a task that has failed: a new task, of the old one's owner (ADR 0036)."""

from __future__ import annotations

import pytest

from tests.e2e.inside import select
from workflows.domain.key_limits import KeyLimits

SAME = ("taskType", "userId", "app", "priority", "payload", "timeout", "maxRetries")


async def retry(api, task_id, key=None, code=200):
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api.ask("POST", f"/tasks/{task_id}/retry", headers=headers, code=code)


async def cancelled(api, task_type, **more):
    task_id = await api.create(task_type, **more)
    await api.post(f"/tasks/{task_id}/cancel")
    return task_id


async def test_a_failed_task_runs_again_and_the_old_one_stays(api, make_node):
    node = await make_node("retries", [640])
    old = await api.create(640, '{"x": "输入"}', priority=4, env="blue", timeout=70_000, maxRetries=0)
    await api.say(await node.next_put(), "FAILED", "boom")
    before = await api.until(old, "FAILED")
    created = await retry(api, old)
    assert list(created) == ["taskId", "displayId", "status", "estimatedWaitTime"]
    assert created["status"] == "QUEUED"
    put = await node.next_put()
    assert put.task_id == created["taskId"] != old
    await api.succeed(put, {"good": True})
    new = await api.until(created["taskId"], "COMPLETED")
    assert [new[name] for name in SAME] == [before[name] for name in SAME]
    assert (new["retryOf"], before["retryOf"]) == (old, None)
    assert await api.get(f"/tasks/{old}") == before
    entries = await api.get("/audit?action=task.retry&size=100")
    (entry,) = (one for one in entries if one["subject"] == old)
    assert new["taskId"] in entry["detail"]
    events = await api.get(f"/tasks/{new['taskId']}/events")
    assert [one["to"] for one in events] == ["QUEUED", "PROCESSING", "COMPLETED"]


async def test_only_what_has_failed_is_retried(api, make_node):
    node = await make_node("not_failed", [641])
    done = await api.create(641)
    put = await node.next_put()
    await api.until(done, "PROCESSING")
    await retry(api, done, code=400)
    await api.succeed(put, {})
    await api.until(done, "COMPLETED")
    await retry(api, done, code=400)
    waits = await api.create(642)
    await retry(api, waits, code=400)
    await api.post(f"/tasks/{waits}/cancel")
    await retry(api, await _retried(api, waits), code=400)
    await retry(api, "task_unknown", code=404)


async def _retried(api, task_id):
    """The retry of a cancelled task."""
    return (await retry(api, task_id))["taskId"]


async def test_an_expired_task_gets_its_time_again(api):
    old = await api.create(645, expiresIn=500)
    before = await api.until(old, "TIMEOUT")
    new = await api.get(f"/tasks/{await _retried(api, old)}")
    assert before["expiresAt"] < new["expiresAt"] <= new["createdAt"] + 501  # both are cut to milliseconds
    await api.until(new["taskId"], "TIMEOUT")


async def test_a_retry_belongs_to_the_owner_whoever_asks(api, make_caller, stack):
    owner, operator = await make_caller("user", "retry owner"), await make_caller("operator")
    old = await cancelled(owner, 643, userId="retry owner", priority=1)
    new = await _retried(operator, old)
    statement = "SELECT user_id, lineage, flow, queue_class FROM tasks WHERE task_id = %s"
    assert await select(stack, statement, new) == await select(stack, statement, old)
    assert (await owner.get(f"/tasks/{new}"))["retryOf"] == old
    await owner.post(f"/tasks/{new}/cancel")
    other = await make_caller("user", "somebody else")
    await retry(other, old, code=404)
    await retry(await make_caller("node"), old, code=403)
    small = await make_caller("user", "retry owner", limits=KeyLimits(max_priority=0))
    await retry(small, old, code=400)
    await retry(await make_caller("user", "retry owner", limits=KeyLimits(apps=("another",))), old, code=403)


@pytest.mark.parametrize("role", ["user", "operator"])
async def test_the_same_idempotency_key_gives_the_same_task(role, make_caller):
    owner, caller = await make_caller("user", "twice"), await make_caller(role, "twice")
    old, another = await cancelled(owner, 644, userId="twice"), await cancelled(owner, 644, userId="twice")
    new = await retry(caller, old, "once")
    assert (await retry(caller, old, "once"))["taskId"] == new["taskId"]
    await retry(caller, another, "once", code=400)
    own = await retry(owner, old, "once")  # each key has its own
    assert own["taskId"] != new["taskId"]
    body = {"taskType": 644, "userId": "twice", "app": "tests", "payload": "{}"}
    await owner.ask("POST", "/tasks", json=body, headers={"Idempotency-Key": "once"}, code=400)
    for one in (new, own):
        await owner.post(f"/tasks/{one['taskId']}/cancel")

"""A task's own limits: its expiry and its deadline (ADR 0037)."""

from __future__ import annotations

import asyncio
import time
from signal import SIGKILL

from temporalio.client import WorkflowExecutionStatus

from tests.conftest import eventually
from tests.e2e.conftest import side_by_side
from tests.e2e.inside import change, select
from tests.e2e.test_endings import closed
from tests.e2e.test_outages import stopped

FAILED = WorkflowExecutionStatus.FAILED
WITHIN_S = 4.0
"""How much later than its limit a task has ended at most: a turn of the leader and its work, on a busy machine."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ended_at(task, reason):
    assert (task["status"], task["endReason"]) == ("TIMEOUT", reason)
    limit = task["expiresAt"] if reason == "EXPIRED" else task["deadline"]
    assert 0 <= task["completedAt"] - limit < 1000 * WITHIN_S
    return task


async def running(api, gpu_id):
    return (await api.get(f"/gpus/{gpu_id}"))["currentTasks"]


@side_by_side
async def test_a_task_expires_while_it_waits(api, temporal):
    task_id = await api.create(620, expiresIn=300)
    task = ended_at(await api.until(task_id, "TIMEOUT"), "EXPIRED")
    assert task["errorMessage"] == "任务已超过有效期，不再开始执行"
    assert (await closed(temporal, task_id))[:2] == (FAILED, "TaskTimedOut")
    events = await api.get(f"/tasks/{task_id}/events")
    assert [(one["to"], one["actor"]) for one in events[1:]] == [("TIMEOUT", "limits")]


@side_by_side
async def test_many_expire_at_the_same_moment(api):
    one = body(621, deadline=now_ms() + 4000, priority=1)
    for task in await api.post("/tasks/batch", {"tasks": [one] * 100}):
        ended_at(await api.until(task["taskId"], "TIMEOUT"), "DEADLINE")


@side_by_side
async def test_a_task_expires_while_its_node_refuses_it(api, make_node, temporal):
    node = await make_node("refuses", [622])
    node.answer = (503, {})
    task_id = await api.create(622, expiresIn=4000)
    await node.next_put()
    ended_at(await api.until(task_id, "TIMEOUT"), "EXPIRED")
    gpu = await api.get("/gpus/refuses")
    assert (gpu["taskFailureCount"], gpu["status"]) == (0, "ACTIVE")
    assert (await closed(temporal, task_id))[:2] == (FAILED, "TaskTimedOut")


@side_by_side
async def test_a_running_task_ends_at_its_deadline_and_its_slot_is_free_when_the_node_says_so(api, make_node, temporal):
    node = await make_node("overdue", [624])
    node.cancel_hold = asyncio.Event()
    task_id, then = await api.create(624, deadline=now_ms() + 4000), await api.create(624)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    task = ended_at(await api.until(task_id, "TIMEOUT"), "DEADLINE")
    assert (task["errorMessage"], task["gpuId"]) == ("任务已超过截止时间", "overdue")
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))
    await api.succeed(put, {"too": "late"}, code=400)
    assert (await running(api, "overdue"), node.puts.empty()) == (1, True)
    node.cancel_hold.set()
    assert (await node.next_put()).task_id == then
    assert (await closed(temporal, task_id))[:2] == (FAILED, "TaskTimedOut")
    assert (await api.get("/gpus/overdue"))["taskFailureCount"] == 0


@side_by_side
async def test_what_has_started_does_not_expire(api, make_node):
    node = await make_node("starts", [625])
    task_id = await api.create(625, expiresIn=4000, deadline=now_ms() + 60_000)
    put = await node.next_put()
    probe = await api.create(626, expiresIn=4000)  # it waits, and so shows that the moment has come
    await api.until(probe, "TIMEOUT")
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["endReason"] == "COMPLETED"


@side_by_side
async def test_a_past_deadline_is_refused_but_not_for_a_repetition(api):
    await api.post("/tasks", body(627, deadline=now_ms() - 1), code=400)
    deadline, key = now_ms() + 500, {"Idempotency-Key": "of 627"}
    first = await api.post("/tasks", body(627, deadline=deadline), headers=key)
    await api.until(first["taskId"], "TIMEOUT")
    again = await api.post("/tasks", body(627, deadline=deadline), headers=key)
    assert (again["taskId"], again["status"]) == (first["taskId"], "TIMEOUT")
    new = {"Idempotency-Key": "new of 627"}
    assert "deadline" in (await refused(api, body(627, deadline=deadline), headers=new))["message"]


@side_by_side
async def test_it_is_created_only_where_a_slot_is_free_now(api, make_node):
    node = await make_node("one_slot", [628])
    key = {"Idempotency-Key": "of 628"}
    first = await api.post("/tasks", body(628, maxWait=0), headers=key)
    put = await node.next_put()
    assert put.task_id == first["taskId"]
    total = (await api.get("/tasks?taskType=628"))[0]["displayId"]
    refusal = await api.http.post("/tasks", json=body(628, maxWait=0))
    assert (refusal.status_code, refusal.json()["data"]) == (429, None)
    assert int(refusal.headers["Retry-After"]) >= 1
    assert "maxWait" in refusal.json()["message"]
    assert [one["displayId"] for one in await api.get("/tasks?taskType=628")] == [total]
    assert (await api.post("/tasks", body(628, maxWait=0), headers=key))["taskId"] == first["taskId"]
    await api.succeed(put, {})
    await api.post("/tasks", body(628, maxWait=0))
    await node.next_put()


async def counted(stack, many):
    (row,) = await select(stack, "SELECT count(*) AS n FROM tasks WHERE task_type = 863 AND end_reason = 'EXPIRED'")
    return row["n"] == many


def body(task_type, **more):
    return {"taskType": task_type, "userId": "u", "app": "a", "payload": "{}", **more}


async def refused(api, wanted, **options):
    response = await api.http.post("/tasks", json=wanted, **options)
    assert response.status_code == 400
    return response.json()


async def test_with_every_worker_away_it_expires_in_time_and_never_starts(api, stack, make_node, temporal):
    node = await make_node("idle", [623])
    async with stopped(stack, "worker"):
        task_id = await api.create(623, expiresIn=1000)
        assert await running(api, "idle") == 1  # it has a slot, and nobody dispatches it
        ended_at(await api.until(task_id, "TIMEOUT"), "EXPIRED")
    assert (await closed(temporal, task_id))[:2] == (FAILED, "TaskTimedOut")
    then = await api.create(623)
    assert (await node.next_put()).task_id == then


async def test_a_thousand_that_expire_at_one_moment_end_as_soon_as_a_worker_is_back(api, stack, make_node, temporal):
    """Nothing else leads, and free slots are there for what must not start."""
    node = await make_node("one_of_many", [863])
    began = await api.create(863)
    await node.next_put()
    await api.until(began, "PROCESSING")
    created = await api.post("/tasks/batch", {"tasks": [body(863, expiresIn=3_600_000)] * 1000})
    async with stopped(stack, "api", SIGKILL):
        async with stopped(stack, "worker", SIGKILL):
            await change(
                stack,
                "UPDATE tasks SET expires_at = clock_timestamp() WHERE task_type = 863 AND expires_at IS NOT NULL",
                "UPDATE gpus SET max_concurrent_tasks = 100 WHERE gpu_id = 'one_of_many'",
                "DELETE FROM leader_lease",  # it would have run out
            )
        await eventually(lambda: counted(stack, 1000), within=10)
        (back,) = await select(
            stack,
            "SELECT extract(epoch FROM max(t.completed_at) - i.started_at)::float AS took_s,"
            " count(*) FILTER (WHERE t.attempts > 0) AS started"
            " FROM tasks t, (SELECT max(started_at) AS started_at FROM instances WHERE kind = 'worker') i"
            " WHERE t.task_type = 863 AND t.end_reason = 'EXPIRED' GROUP BY i.started_at",
        )
    assert back["took_s"] < 2.0, back
    puts = {node.puts.get_nowait().task_id for _ in range(node.puts.qsize())}
    assert (back["started"], puts - {began}) == (0, set())  # the killed worker's own dispatch may be repeated
    assert (await api.get(f"/tasks/{created[-1]['taskId']}"))["endReason"] == "EXPIRED"
    assert (await api.get(f"/tasks/{began}"))["status"] == "PROCESSING"

    async def notified() -> bool:
        running = await temporal.count_workflows("TaskType = 863 AND ExecutionStatus = 'Running'")
        return running.count == 1

    await eventually(notified, within=60)
    await api.post(f"/tasks/{began}/cancel")


async def test_an_unknown_wait_is_refused(api):
    for wait_s in (0, 1000):
        refusal = await api.http.post("/tasks", json=body(629, maxWait=wait_s))
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (429, "60")

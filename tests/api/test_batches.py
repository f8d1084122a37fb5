"""`POST /tasks/batch` on the real stack."""

from __future__ import annotations

import json

import pytest

from tests.conftest import eventually
from workflows.domain.key_limits import KeyLimits

WAITS, RUNS = 969, 970


def tasks(count, task_type=WAITS, **more):
    one = {"taskType": task_type, "userId": "somebody", "app": "a", "timeout": 60_000, **more}
    return [one | {"payload": json.dumps({"n": n})} for n in range(count)]


async def end(api, created):
    for one in created:
        await api.post(f"/tasks/{one['taskId']}/cancel")


async def test_each_task_is_answered_in_order_and_waits(api, make_caller, temporal):
    user = await make_caller("user", "somebody")
    created = await user.post("/tasks/batch", {"tasks": tasks(12), "groupId": "batch_order"})
    assert list(created[0]) == ["taskId", "displayId", "status", "estimatedWaitTime"]
    assert [one["displayId"] - created[0]["displayId"] for one in created] == list(range(12))
    for number, one in enumerate(created):
        found = await user.get(f"/tasks/{one['taskId']}")
        assert (json.loads(found["payload"]), found["groupId"], found["status"]) == (
            {"n": number}, "batch_order", "QUEUED")  # fmt: skip
        assert (await user.get(f"/tasks/{one['taskId']}/progress"))["queuePosition"] == number + 1
    assert (await user.get("/groups/batch_order"))["total"] == 12

    async def is_started():
        await temporal.get_workflow_handle(f"task-{created[-1]['taskId']}").describe()
        return True

    await eventually(is_started)
    (entry,) = await api.get(f"/audit?keyId={user.made.key_id}")
    assert (entry["action"], entry["subject"]) == ("task.batch", created[0]["taskId"])
    await end(api, created)


async def test_the_key_covers_the_batch(api, make_caller):
    user = await make_caller("user", "somebody")
    headers = {"Idempotency-Key": "batch"}
    created = await user.post("/tasks/batch", {"tasks": tasks(3)}, headers=headers)
    again = await user.post("/tasks/batch", {"tasks": [one | {"unknown": 1} for one in tasks(3)]}, headers=headers)
    assert again == created
    for other in ({"tasks": tasks(2)}, {"tasks": tasks(4)}, {"tasks": tasks(3), "groupId": "g"}):
        await user.post("/tasks/batch", other, headers=headers, code=400)
    await user.post("/tasks", tasks(1)[0], headers=headers, code=400)
    assert (await user.http.get(f"/tasks?taskType={WAITS}&status=QUEUED")).headers["X-Total-Count"] == "3"
    await end(api, created)


async def test_all_or_none(api, make_caller):
    user = await make_caller("user", "somebody")
    before = (await user.http.get("/tasks")).headers["X-Total-Count"]
    late = [*tasks(5), tasks(1, maxWait=10)[0]]
    refused = await user.http.post("/tasks/batch", json={"tasks": late})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert "tasks[5].maxWait" in refused.json()["message"]
    refused = await user.http.post("/tasks/batch", json={"tasks": [*tasks(2), tasks(1, deadline=1)[0]]})
    assert (refused.status_code, "tasks[2].deadline" in refused.text) == (400, True)
    assert (await user.http.get("/tasks")).headers["X-Total-Count"] == before


@pytest.mark.parametrize(
    ("more", "code", "field"),
    [({"userId": "another"}, 403, "userId"), ({"app": "b"}, 403, "app"), ({"priority": 5}, 400, "priority")],
)
async def test_the_limits_of_the_key_hold_for_each_task(make_caller, more, code, field):
    user = await make_caller("user", "somebody", limits=KeyLimits(apps=("a",), max_priority=2))
    refused = await user.http.post("/tasks/batch", json={"tasks": [*tasks(1), *tasks(1, **more)]})
    assert (refused.status_code, f"tasks[1].{field}" in refused.text) == (code, True)


async def test_no_slot_is_idle_while_a_batch_waits(api, make_node):
    """Two nodes were free before it came. Each slot has its task at once, by no turn of the leader."""
    nodes = [await make_node(f"batch_{n}", [RUNS], maxConcurrentTasks=3) for n in range(2)]
    created = await api.post("/tasks/batch", {"tasks": tasks(8, RUNS)})
    puts = [await node.puts.get() for node in nodes for _ in range(3)]
    assert {put.task_id for put in puts} == {one["taskId"] for one in created[:6]}
    for put in puts[:2]:
        await api.succeed(put, {"ok": True})
    puts += [await nodes[0].puts.get() for _ in range(2)]
    for put in puts[2:]:
        await api.succeed(put, {"ok": True})
    for one in created:
        await api.until(one["taskId"], "COMPLETED")


@pytest.mark.parametrize("chunked", [True, False])
async def test_eight_mebibytes_are_taken(api, chunked):
    """Payloads of Chinese are the longest to decode."""
    large = [one | {"payload": "密" * 66_000} for one in tasks(41)]
    content = json.dumps({"tasks": large}, ensure_ascii=False).encode()
    assert 8_100_000 < len(content) < 8 * 1024 * 1024

    async def pieces():
        for start in range(0, len(content), 500_000):
            yield content[start : start + 500_000]

    headers = {"Content-Type": "application/json"}
    response = await api.http.post("/tasks/batch", content=pieces() if chunked else content, headers=headers)
    created = response.json()["data"]
    assert (response.status_code, len(created)) == (200, 41)
    assert (await api.get(f"/tasks/{created[-1]['taskId']}"))["payload"] == "密" * 66_000
    await end(api, created)

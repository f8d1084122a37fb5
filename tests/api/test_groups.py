"""`groupId` and `GET /groups/{groupId}` on the real stack."""

from __future__ import annotations

import json

TYPE = 700


async def create(caller, **more):
    body = {"taskType": TYPE, "userId": "somebody", "app": "a", "payload": "{}", "timeout": 60_000, **more}
    return (await caller.post("/tasks", body))["taskId"]


async def test_a_group_until_it_has_ended(api, make_caller, make_node):
    user = await make_caller("user", "somebody")
    tasks = [await create(user, groupId="多 组?") for _ in range(4)]
    path = "/groups/%E5%A4%9A%20%E7%BB%84%3F"
    group = await user.get(path)
    assert (group["groupId"], group["total"], group["progress"]) == ("多 组?", 4, 0)
    assert group["statusCounts"] == {"QUEUED": 4, "PROCESSING": 0, "COMPLETED": 0, "FAILED": 0, "TIMEOUT": 0}
    assert group["estimatedRemainingTime"] is None  # nobody serves the type
    assert (await user.get(f"/tasks/{tasks[0]}"))["groupId"] == "多 组?"
    node = await make_node("groups_1", [TYPE])
    put = await node.puts.get()
    assert (await user.get(path))["estimatedRemainingTime"] > 0
    await api.succeed(put, {"ok": True})
    for task_id in set(tasks) - {put.task_id}:
        await user.post(f"/tasks/{task_id}/cancel")
    await api.until(put.task_id, "COMPLETED")
    group = await user.get(path)
    assert (group["total"], group["progress"], group["estimatedRemainingTime"]) == (4, 100, 0)
    assert (group["statusCounts"]["COMPLETED"], group["statusCounts"]["FAILED"]) == (1, 3)


async def test_each_owner_has_groups_of_their_own(api, make_caller):
    one, other = await make_caller("user", "somebody"), await make_caller("user", "somebody else")
    operator = await make_caller("operator")
    tasks = [await create(one, groupId="own") for _ in range(2)]
    await other.get("/groups/own", code=404)
    tasks.append(await create(other, groupId="own", userId="somebody else"))
    assert [(await caller.get("/groups/own"))["total"] for caller in (one, other, operator, api)] == [2, 1, 3, 3]
    await operator.get("/groups/unknown", code=404)
    for task_id in tasks:
        await api.post(f"/tasks/{task_id}/cancel")


async def test_a_retry_belongs_to_the_group_too(api, make_caller):
    user = await make_caller("user", "somebody")
    task_id = await create(user, groupId="again")
    await user.post(f"/tasks/{task_id}/cancel")
    again = (await user.post(f"/tasks/{task_id}/retry"))["taskId"]
    assert (await user.get("/groups/again"))["total"] == 2
    await user.post(f"/tasks/{again}/cancel")


async def test_the_same_key_means_the_same_group(api, make_caller):
    user = await make_caller("user", "somebody")
    headers = {"Idempotency-Key": "grouped"}
    body = {"taskType": TYPE, "userId": "somebody", "app": "a", "payload": json.dumps({})}
    first = await user.post("/tasks", body | {"groupId": "keyed"}, headers=headers)
    assert await user.post("/tasks", body | {"groupId": "keyed"}, headers=headers) == first
    await user.post("/tasks", body, headers=headers, code=400)
    await user.post(f"/tasks/{first['taskId']}/cancel")

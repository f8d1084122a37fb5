"""Bulk cancels and retries: by ids or by a filter, counted first, processed in the background (ADR 0041)."""

from __future__ import annotations

import asyncio

from tests.conftest import eventually
from tests.e2e.inside import select
from tests.e2e.test_cancel import CANCELED
from tests.e2e.test_endings import closed_as
from workflows.domain.key_limits import KeyLimits

SLOW = 30.0


async def bulk(api, what, **body):
    """A bulk call, until the operation is done; its answer, and how it ended."""
    answer = await api.post(f"/tasks/{what}", body)
    assert list(answer) == ["operationId", "matched"]
    return answer, await done(api, answer["operationId"])


async def done(api, operation_id, within=SLOW):
    async def is_done():
        found = await api.get(f"/operations/{operation_id}")
        return found if found["state"] == "DONE" else None

    return await eventually(is_done, within=within)


async def ended_as(api, *task_ids):
    return [(await api.get(f"/tasks/{one}"))["endReason"] for one in task_ids]


async def test_ids_are_cancelled_what_waits_and_what_runs(api, make_node, temporal):
    node = await make_node("bulk", [720])
    running, waiting, ended, other = [await api.create(720) for _ in range(4)]
    await node.next_put()
    await api.until(running, "PROCESSING")
    await api.post(f"/tasks/{ended}/cancel")
    ids = [running, waiting, ended, waiting]
    assert await api.post("/tasks/cancel", {"ids": ids, "dryRun": True}) == {"matched": 2}
    answer, found = await bulk(api, "cancel", ids=ids, reason="全部停止")
    assert answer["matched"] == 2
    assert found == {
        "operationId": answer["operationId"],
        **{"kind": "CANCEL", "state": "DONE", "matched": 2, "done": 2, "failed": 0},
    }
    assert await ended_as(api, running, waiting) == ["CANCELLED"] * 2
    assert (await api.get(f"/tasks/{waiting}"))["errorMessage"] == "任务已取消：全部停止"
    assert [await closed_as(temporal, one) for one in (running, waiting)] == [CANCELED] * 2
    await eventually(lambda: asyncio.sleep(0, f"{running}-1" in node.canceled))
    assert (await node.next_put()).task_id == other
    for one in (running, waiting):
        assert (await api.get(f"/tasks/{one}/events"))[-1]["actor"].startswith("key:")
    entries = await api.get("/audit?action=tasks.cancel&size=100")
    (entry,) = (one for one in entries if one["subject"] == answer["operationId"])
    assert entry["detail"] == 'matched 2, {"ids": 3}, 全部停止'
    assert not [one for one in await api.get("/audit?action=task.cancel&size=100") if one["subject"] == running]
    await api.post(f"/tasks/{other}/cancel")


async def test_everything_of_an_app_that_has_not_started(api, make_node):
    """docs/operations.md, "Many at a time"."""
    node = await make_node("bulk_app", [721])
    tasks = [await api.create(721, app="bulk app") for _ in range(4)]
    kept = await api.create(721, app="bulk app 2")
    await node.next_put()
    await api.until(tasks[0], "PROCESSING")
    answer, found = await bulk(api, "cancel", filter={"app": "bulk app", "status": "QUEUED"})
    assert (answer["matched"], found["done"], found["failed"]) == (3, 3, 0)
    assert await ended_as(api, *tasks, kept) == [None, *["CANCELLED"] * 3, None]
    later = await api.create(721, app="bulk app")
    assert await ended_as(api, later) == [None]
    for one in (tasks[0], kept, later):
        await api.post(f"/tasks/{one}/cancel")


async def test_every_condition_counts(api):
    group = {"taskType": 722, "app": "bulk conditions", "userId": "bulk user"}
    wanted = [await api.create(722, app="bulk conditions", userId="bulk user") for _ in range(2)]
    await api.create(722, app="bulk conditions", userId="another")
    first, second = [(await api.get(f"/tasks/{one}"))["createdAt"] for one in wanted]
    for more, matched in [
        ({}, 2), ({"status": "QUEUED"}, 2), ({"status": "PROCESSING"}, 0), ({"status": "FAILED"}, 0),
        ({"gpuId": "gpu_001"}, 0), ({"groupId": "none"}, 0), ({"endReason": "CANCELLED"}, 0),
        ({"createdAfter": first - 1, "createdBefore": second + 1}, 2), ({"createdBefore": first}, 0),
        ({"createdAfter": second}, 0),
    ]:  # fmt: skip
        answer = await api.post("/tasks/cancel", {"filter": group | more, "dryRun": True})
        assert answer == {"matched": matched}, more
    everything = await api.post("/tasks/cancel", {"filter": {"all": True}, "dryRun": True})
    assert everything["matched"] >= 3
    answer, found = await bulk(api, "cancel", filter={"taskType": 722})
    assert (answer["matched"], found["done"]) == (3, 3)
    for reason, matched in (("CANCELLED", 2), ("FAILED", 0), ("EXPIRED", 0)):
        chosen = {"filter": group | {"endReason": reason}, "dryRun": True}
        assert await api.post("/tasks/retry", chosen) == {"matched": matched}


async def test_nothing_to_do_is_done_at_once(api):
    answer = await api.post("/tasks/retry", {"filter": {"app": "nobody's app"}})
    found = await api.get(f"/operations/{answer['operationId']}")
    assert found == {
        "operationId": answer["operationId"],
        **{"kind": "RETRY", "state": "DONE", "matched": 0, "done": 0, "failed": 0},
    }


async def test_a_retry_repeats_each_once_and_not_what_it_has_made(api, make_caller, stack):
    operator = await make_caller("operator")
    tasks = [await api.create(723, app="bulk retry", userId="bulk retrier") for _ in range(3)]
    await bulk(api, "cancel", ids=tasks[:2])
    answer, found = await bulk(operator, "retry", filter={"app": "bulk retry"})
    assert (answer["matched"], found["done"], found["failed"]) == (2, 2, 0)
    statement = "SELECT task_id, retry_of, user_id, lineage FROM tasks WHERE app = %s AND retry_of IS NOT NULL"
    rows = await select(stack, statement, "bulk retry")
    assert sorted(row["retry_of"] for row in rows) == sorted(tasks[:2])
    assert {row["user_id"] for row in rows} == {"bulk retrier"}
    (lineage,) = {row["lineage"] for row in rows}
    assert lineage == (await select(stack, "SELECT lineage FROM tasks WHERE task_id = %s", tasks[0]))[0]["lineage"]
    actors = {(await api.get(f"/tasks/{row['task_id']}/events"))[0]["actor"] for row in rows}
    assert actors == {f"key:{operator.made.key_id}"}
    entries = await api.get("/audit?action=task.retry&size=100")
    assert not [one for one in entries if one["subject"] in tasks]
    await bulk(api, "cancel", filter={"app": "bulk retry"})


async def test_what_cannot_be_retried_counts_as_failed(api, make_caller):
    owner = await make_caller("user", "bulk granted")
    tasks = [await owner.create(724, userId="bulk granted", app=app) for app in ("a", "b")]
    urgent = await owner.create(724, userId="bulk granted", app="a", priority=5)
    await bulk(owner, "cancel", filter={"taskType": 724})
    small = await make_caller("user", "bulk granted", limits=KeyLimits(apps=("a",), max_priority=3))
    answer, found = await bulk(small, "retry", ids=[*tasks, urgent])
    assert (answer["matched"], found["done"], found["failed"]) == (3, 1, 2)
    await bulk(owner, "cancel", filter={"taskType": 724})


async def test_a_users_filter_never_reaches_the_tasks_of_others(api, make_caller):
    mine, theirs = await make_caller("user", "bulk mine"), await make_caller("user", "bulk theirs")
    own = await mine.create(725, userId="bulk mine")
    other = await theirs.create(725, userId="bulk theirs")
    for chosen in ({"all": True}, {"taskType": 725}):
        assert await mine.post("/tasks/cancel", {"filter": chosen, "dryRun": True}) == {"matched": 1}
    for what in ("cancel", "retry"):
        assert await mine.post(f"/tasks/{what}", {"filter": {"userId": "bulk theirs"}, "dryRun": True}) == {
            "matched": 0
        }
        await mine.post(f"/tasks/{what}", {"ids": [own, other]}, code=404)
        await mine.post(f"/tasks/{what}", {"ids": [own, "task_unknown"]}, code=404)
        await api.post(f"/tasks/{what}", {"ids": [own, "task_unknown"]}, code=404)
    answer, _ = await bulk(mine, "cancel", filter={"all": True})
    assert await ended_as(api, own, other) == ["CANCELLED", None]
    path = f"/operations/{answer['operationId']}"
    await theirs.get(path, code=404)
    await (await make_caller("node")).get(path, code=403)
    assert await (await make_caller("user", "bulk mine")).get(path) == await (await make_caller("operator")).get(path)
    await api.get("/operations/op_unknown", code=404)
    await theirs.post(f"/tasks/{other}/cancel")


async def test_the_same_idempotency_key_gives_the_same_operation(api):
    headers = {"Idempotency-Key": "bulk once"}
    body = {"filter": {"app": "bulk once"}, "reason": "once"}
    task = await api.create(726, app="bulk once")
    first = await api.post("/tasks/cancel", body, headers=headers)
    assert await api.post("/tasks/cancel", body, headers=headers) == first
    await api.post("/tasks/cancel", body | {"reason": "twice"}, headers=headers, code=400)
    await api.post("/tasks/retry", {"filter": {"app": "bulk once"}}, headers=headers, code=400)
    await done(api, first["operationId"])
    assert await ended_as(api, task) == ["CANCELLED"]


async def test_the_leader_starts_an_operation_whose_start_was_lost(api, stack, temporal):
    for _ in range(3):
        await api.create(727, app="bulk lost")
    answer, found = await bulk(api, "cancel", filter={"app": "bulk lost"})
    assert (found["done"], found["failed"]) == (3, 0)
    handle = temporal.get_workflow_handle(f"operation-{answer['operationId']}")
    assert (await handle.result())["done"] == 3
    begin_again = "UPDATE operations SET state = 'RUNNING', completed_at = NULL, cursor = 0 WHERE operation_id = %s"
    await select(stack, f"{begin_again} RETURNING state", answer["operationId"])
    assert await done(api, answer["operationId"]) == found  # nothing is counted twice

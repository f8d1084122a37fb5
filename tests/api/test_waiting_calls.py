"""`Prefer: wait=N`: an answer once the task has ended, or after N seconds as it is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.conftest import Api

TYPE, UNSERVED = 762, 972


async def result(api: Api, task_id: str, wait: str) -> tuple[Any, str | None]:
    response = await api.http.get(f"/tasks/{task_id}/result", headers={"Prefer": wait})
    assert response.status_code == 200
    assert api.contract is not None
    api.contract.check(response)
    return response.json()["data"], response.headers.get("Preference-Applied")


async def test_a_creation_waits_for_the_end(api, make_node):
    node = await make_node("waits_node", [TYPE])
    body = {"taskType": TYPE, "userId": "user_001", "app": "tests", "payload": "{}"}
    call = asyncio.create_task(api.post("/tasks", body, headers={"Prefer": "wait=30"}))
    put = await node.next_put()
    await api.say(put, "PROCESSING")
    await api.succeed(put, {"n": 1})
    created = await call
    assert (created["status"], created["result"], created["errorMessage"]) == ("COMPLETED", '{"n": 1}', None)
    found, applied = await result(api, created["taskId"], "wait=30")  # it has ended
    assert (found["status"], applied) == ("COMPLETED", "wait=30")


async def test_after_that_time_the_answer_is_as_it_is(api):
    task_id = await api.create(UNSERVED)
    began = time.monotonic()
    found, applied = await result(api, task_id, "respond-async, wait=1; foo")
    assert 1.0 <= time.monotonic() - began < 10
    assert (found["status"], found["result"], applied) == ("QUEUED", None, "wait=1")
    body = {"taskType": UNSERVED, "userId": "user_001", "app": "tests", "payload": "{}"}
    created = await api.post("/tasks", body, headers={"Prefer": "wait=0"})
    assert (created["status"], created["result"], created["errorMessage"]) == ("QUEUED", None, None)
    for one in (task_id, created["taskId"]):
        await api.post(f"/tasks/{one}/cancel")


async def test_many_wait_for_one_task(make_caller):
    """More than have turns: they hold none."""
    caller = await make_caller("user", "waits many")
    task_id = await caller.create(UNSERVED, userId="waits many")
    waiting = [asyncio.create_task(result(caller, task_id, "wait=30")) for _ in range(40)]
    await caller.get("/tasks")
    await caller.post(f"/tasks/{task_id}/cancel")
    assert {found["status"] for found, _ in await asyncio.gather(*waiting)} == {"FAILED"}


async def test_what_is_no_preference_is_ignored(api):
    task_id = await api.create(UNSERVED)
    for prefer in ("wait", "wait=x", "wait=-1", "return=minimal", ""):
        assert (await result(api, task_id, prefer))[1] is None
    await api.post(f"/tasks/{task_id}/cancel")

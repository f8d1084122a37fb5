"""The webhook of a single task on the real stack: signed with the secret of its owner."""

from __future__ import annotations

import json

from standardwebhooks import Webhook

from tests.conftest import Api
from tests.e2e.inside import select
from tests.e2e.test_webhooks import got
from tests.fake_node import FakeNode, Put
from tests.receiver import Receiver


async def rejected(api: Api, node: FakeNode) -> Put:
    """The node's next PUT, whose input it rejects."""
    put = await node.next_put()
    await api.say(put, "FAILED", "boom", rejected=True)
    return put


async def test_the_webhook_of_a_task_gets_its_end_signed_with_the_owner_s_secret(make_caller, make_node, api, stack):
    caller = await make_caller("user", "user_of_tasks")
    node = await make_node("hooks_793", [793])
    async with Receiver() as receiver:
        task = {"taskType": 793, "userId": "user_of_tasks", "app": "a", "payload": "{}", "webhook": receiver.url("/t")}
        await caller.post("/tasks", task, code=400)  # there is no secret yet
        signer = await caller.post("/webhooks/secret")
        secret = signer["secret"]
        await caller.post("/tasks", task | {"webhook": "https://10.0.0.1/"}, code=403)
        await caller.post("/tasks", task | {"webhook": "ftp://a.example/"}, code=400)
        batch = {"tasks": [{**task, "webhook": None}, {**task, "webhook": "https://10.0.0.1/"}]}
        assert "tasks[1].webhook" in (await caller.http.post("/tasks/batch", json=batch)).json()["message"]
        made = [await caller.post("/tasks", task)]
        made += await caller.post("/tasks/batch", {"tasks": [task, {**task, "webhook": None}]})
        puts = [await rejected(api, node) for _ in made]
        assert {put.task_id for put in puts} == {one["taskId"] for one in made}
        came = await got(receiver, 2)
        assert {json.loads(each.body)["taskId"] for each in came} == {one["taskId"] for one in made[:2]}
        listed = await caller.get(f"/webhooks/{signer['webhookId']}/deliveries")
        assert {one["eventId"] for one in listed} == {each.id for each in came}
        again = (await caller.post("/webhooks/secret"))["secret"]
        retried = await caller.post(f"/tasks/{made[0]['taskId']}/retry")
        last_put = await node.next_put()
        assert last_put.task_id == retried["taskId"]
        await api.succeed(last_put, {"n": 1})
        await caller.until(retried["taskId"], "COMPLETED")
        last = (await got(receiver, 3))[-1]
    assert json.loads(last.body)["taskId"] == retried["taskId"]
    for each in came:
        assert Webhook(secret).verify(each.body, each.headers)
    for one in (secret, again):
        assert Webhook(one).verify(last.body, last.headers)
    assert {each.path for each in receiver.got} == {"/t"}
    assert await caller.get("/webhooks") == []
    disable = "UPDATE webhooks SET state = 'DISABLED', disabled_because = 'KEY' WHERE webhook_id = %s RETURNING state"
    assert await select(stack, disable, signer["webhookId"])
    await caller.post("/tasks", task, code=400)
    await caller.post("/tasks/batch", {"tasks": [task]}, code=400)
    await caller.post(f"/tasks/{made[0]['taskId']}/retry", code=400)
    assert (await caller.post("/webhooks/secret"))["webhookId"] == signer["webhookId"]
    for new in (await caller.post("/tasks", task), await caller.post(f"/tasks/{made[0]['taskId']}/retry")):
        await caller.post(f"/tasks/{new['taskId']}/cancel")


async def test_a_repetition_is_answered_whatever_has_become_of_its_secret(make_caller, stack):
    caller = await make_caller("user", "user_who_repeats")
    task = {"taskType": 979, "userId": "user_who_repeats", "app": "a", "payload": "{}", "webhook": "https://192.0.3.1/"}
    signer = await caller.post("/webhooks/secret")
    calls = [("/tasks", task, {"Idempotency-Key": "a"}), ("/tasks/batch", {"tasks": [task]}, {"Idempotency-Key": "b"})]
    first = [await caller.post(path, body, headers=key) for path, body, key in calls]
    disable = "UPDATE webhooks SET state = 'DISABLED', disabled_because = '410' WHERE webhook_id = %s RETURNING state"
    assert await select(stack, disable, signer["webhookId"])
    assert [await caller.post(path, body, headers=key) for path, body, key in calls] == first
    await caller.post("/tasks", task | {"app": "b"}, headers=calls[0][2], code=400)  # another request
    await caller.post("/tasks", task, headers={"Idempotency-Key": "c"}, code=400)
    for one in (first[0], *first[1]):
        await caller.post(f"/tasks/{one['taskId']}/cancel")

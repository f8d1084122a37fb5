"""Webhooks on the real stack: a receiver on loopback gets each event once for each webhook, whatever it answers."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import svix
from standardwebhooks import Webhook

from infra.db.access import api_keys
from infra.db.access.audit import Actor
from infra.db.session import Database
from infra.temporal.gateway import webhook_workflow_id
from tests.conftest import Api, MakeNode, eventually
from tests.receiver import HANG, RESET, Got, Receiver

ENDED = ["task.ended"]


@dataclass
class Hook:
    """A webhook of a caller."""

    caller: Api
    id: str
    secret: str

    async def deliveries(self) -> list[Any]:
        return await self.caller.get(f"/webhooks/{self.id}/deliveries?size=100")

    async def all_are(self, state: str, count: int = 1) -> list[Any]:
        async def check() -> list[Any] | None:
            found = await self.deliveries()
            return found if len(found) == count and all(one["state"] == state for one in found) else None

        return await eventually(check)


@asynccontextmanager
async def hook(caller: Api, receiver: Receiver, events: list[str] = ENDED, **more: Any) -> AsyncIterator[Hook]:
    """A webhook that is deleted at the end."""
    made = await caller.post("/webhooks", {"url": receiver.url(), "events": events, **more})
    yield Hook(caller, made["webhookId"], made["secret"])
    assert await caller.ask("DELETE", f"/webhooks/{made['webhookId']}") == "Webhook已删除"
    await caller.get(f"/webhooks/{made['webhookId']}/deliveries", code=404)


@dataclass
class Work:
    """Lets tasks end."""

    api: Api
    make_node: MakeNode

    async def end(self, caller: Api, task_type: int, result: Any = None) -> str:
        node = await self.make_node(f"hooks_{task_type}", [task_type])
        assert caller.made is not None
        task_id = await caller.create(task_type, userId=caller.made.key.owner)
        await self.api.succeed(await node.next_put(), {"n": 1} if result is None else result)
        await caller.until(task_id, "COMPLETED")
        return task_id


@pytest.fixture
def work(api, make_node) -> Work:
    return Work(api, make_node)


@pytest.fixture
async def user(make_caller) -> Api:
    return await make_caller("user", "user_hooks")


async def got(receiver: Receiver, count: int = 1, within: float = 20.0) -> list[Got]:
    async def check() -> list[Got] | None:
        return list(receiver.got) if len(receiver.got) >= count else None

    return await eventually(check, within=within)


async def test_an_end_arrives_signed_with_its_result_and_the_id_of_the_log(user, work):
    async with Receiver() as receiver, hook(user, receiver) as one:
        task_id = await work.end(user, 780, {"text": "密"})
        (came,) = await got(receiver)
        event = Webhook(one.secret).verify(came.body, came.headers)
        svix.Webhook(one.secret).verify(came.body, came.headers)
        assert (event["id"], event["type"], event["taskId"]) == (came.id, "task.ended", task_id)
        assert event["data"]["result"] == {"text": "密"}
        (delivery,) = await one.all_are("DELIVERED")
        assert (delivery["eventId"], delivery["tries"], delivery["lastStatus"]) == (came.id, 1, 200)
        assert delivery["nextTryAt"] is None
    assert len(receiver.got) == 1


async def test_every_wrong_answer_is_followed_by_the_same_bytes(user, work):
    async with Receiver(answers=deque([500, 302, RESET, 404])) as receiver, hook(user, receiver) as one:
        await work.end(user, 781)
        came = await got(receiver, 5)
        (delivery,) = await one.all_are("DELIVERED")
    assert delivery["tries"] == 5
    assert len({(each.id, each.body) for each in came}) == 1
    assert all(Webhook(one.secret).verify(each.body, each.headers) for each in came)


async def test_a_large_result_stays_where_it_is(user, work):
    async with Receiver() as receiver, hook(user, receiver):
        task_id = await work.end(user, 782, {"text": "x" * 20_000})
        (came,) = await got(receiver)
    data = json.loads(came.body)["data"]
    assert "result" not in data
    assert len((await user.get(data["resultUrl"].removeprefix("/api/v2")))["result"]["text"]) == 20_000
    assert data["resultUrl"].endswith(f"/tasks/{task_id}/result")


async def test_after_the_last_try_it_is_dead_and_can_be_replayed(user, work):
    async with Receiver(500) as receiver, hook(user, receiver) as one:
        began = int(time.time() * 1000) - 60_000
        await work.end(user, 783)
        (dead,) = await one.all_are("DEAD")
        assert (dead["tries"], dead["lastStatus"], dead["nextTryAt"], len(receiver.got)) == (10, 500, None, 10)
        receiver.usual = 200
        span = {"from": began, "to": began + 600_000}
        assert await user.post(f"/webhooks/{one.id}/replay", {**span, "failedOnly": True}) == {"matched": 1}
        await one.all_are("DELIVERED")
        assert await user.post(f"/webhooks/{one.id}/replay", {**span, "failedOnly": True}) == {"matched": 0}
        assert await user.post(f"/deliveries/{dead['deliveryId']}/replay") == {"matched": 1}
        came = await got(receiver, 12)
    assert len({(each.id, each.body) for each in came}) == 1


async def test_a_receiver_that_is_gone_is_disabled(user, work):
    async with Receiver(410) as receiver, hook(user, receiver) as one:
        await work.end(user, 784)
        await one.all_are("DEAD")
        (listed,) = [each for each in await user.get("/webhooks") if each["webhookId"] == one.id]
        assert (listed["state"], listed["disabledBecause"]) == ("DISABLED", "410")
        assert one.secret not in str(listed)
        await user.post(f"/webhooks/{one.id}/test", code=400)
    assert len(receiver.got) == 1


async def test_a_receiver_that_asks_for_time_gets_it(user, work):
    header = "Retry-After: 2\r\n"
    async with Receiver(answers=deque([503]), header=header) as receiver, hook(user, receiver):
        await work.end(user, 785)
        await got(receiver)
        first = time.monotonic()
        await got(receiver, 2)
        assert time.monotonic() - first > 1.5


async def test_both_secrets_sign_after_a_rotation(user):
    async with Receiver() as receiver, hook(user, receiver) as one:
        new = (await user.post(f"/webhooks/{one.id}/rotate"))["secret"]
        assert (await user.post(f"/webhooks/{one.id}/test"))["deliveryId"].startswith("dlv_")
        (came,) = await got(receiver)
    for secret in (one.secret, new):
        assert Webhook(secret).verify(came.body, came.headers)["type"] == "webhook.test"


async def test_a_user_gets_what_is_theirs_and_an_operator_all(make_caller, user, work):
    other, operator = await make_caller("user", "user_other"), await make_caller("operator", "ops")
    kinds = ["task.created", "task.started", "task.ended"]
    async with (
        Receiver() as mine, Receiver() as theirs, Receiver() as everything,
        hook(user, mine, kinds), hook(other, theirs), hook(operator, everything, [*kinds, "node.registered"]) as all_of,
    ):  # fmt: skip
        task_id = await work.end(user, 786)
        await got(mine, 3)
        await work.end(other, 787)
        await got(theirs)
        await got(everything, 8)
        await other.get(f"/webhooks/{all_of.id}/deliveries", code=404)
        await other.ask("DELETE", f"/webhooks/{all_of.id}", code=404)
    assert {json.loads(each.body)["taskId"] for each in mine.got} == {task_id}
    assert len(theirs.got) == 1
    assert {json.loads(each.body)["type"] for each in everything.got} >= {*kinds, "node.registered"}


async def test_a_webhook_dies_with_the_last_key_of_its_owner(make_caller, stack, work):
    caller = await make_caller("operator", "ops_leaving")
    database = Database(stack.services.database_url, connections=1)
    async with Receiver() as receiver, hook(await make_caller("admin", "keeper"), receiver) as kept:
        made = await caller.post("/webhooks", {"url": receiver.url("/leaving"), "events": ENDED})
        key_id = caller.made.key_id
        await database.run(lambda c: api_keys.revoke(c, key_id, Actor(None, "tests", None)))
        await work.end(await make_caller("user", "user_x"), 788)
        await got(receiver)

        async def disabled() -> bool:
            states = {
                each["webhookId"]: each["disabledBecause"] for each in await kept.caller.get("/webhooks?size=100")
            }
            return states[made["webhookId"]] == "KEY"

        await eventually(disabled)
        await kept.caller.ask("DELETE", f"/webhooks/{made['webhookId']}")
    await database.close()
    assert {each.path for each in receiver.got} == {"/hook"}


async def test_a_hanging_receiver_holds_up_no_other(make_caller, user, work):
    other = await make_caller("user", "user_quick")
    async with Receiver(HANG) as hangs, Receiver() as quick, hook(user, hangs) as slow, hook(other, quick):
        await work.end(user, 789)
        await got(hangs)
        await work.end(other, 790)
        await got(quick, within=8)
        (pending,) = await slow.deliveries()
        assert pending["state"] == "PENDING"


async def test_an_operator_pauses_and_resumes_it_in_temporal(user, work, temporal):
    async with Receiver() as receiver, hook(user, receiver) as one:
        await user.post(f"/webhooks/{one.id}/test")
        await got(receiver)
        handle = temporal.get_workflow_handle(webhook_workflow_id(one.id))
        for nonsense in ([], ["no input"], [{"a": 1}, 2]):
            await handle.signal("pause", args=nonsense)
        await eventually(lambda: _is_quiet(handle))
        await user.post(f"/webhooks/{one.id}/test")
        await work.end(user, 791)
        assert len(receiver.got) == 1
        await handle.signal("resume")
        await got(receiver, 3)


async def _is_between_turns(handle) -> bool:
    return not (await handle.describe()).raw_description.pending_activities


async def _is_quiet(handle) -> bool:
    return (await handle.query("state"))["paused"] and await _is_between_turns(handle)


async def test_an_operator_cancels_it_in_temporal_and_another_run_follows_a_termination(user, work, temporal):
    async with Receiver() as receiver, hook(user, receiver) as one:
        await user.post(f"/webhooks/{one.id}/test")
        await got(receiver)
        handle = temporal.get_workflow_handle(webhook_workflow_id(one.id))
        await eventually(lambda: _is_between_turns(handle))
        await handle.terminate("a person")
        await user.post(f"/webhooks/{one.id}/test")
        await got(receiver, 2)
        await temporal.get_workflow_handle(webhook_workflow_id(one.id)).cancel()

        async def disabled() -> bool:
            states = {each["webhookId"]: each["disabledBecause"] for each in await user.get("/webhooks")}
            return states[one.id] == "TEMPORAL"

        await eventually(disabled)
        await work.end(user, 792)
    assert len(receiver.got) == 2


async def test_what_is_no_webhook(user, api):
    body = {"url": "https://example.com/", "events": ENDED}
    for url in ("http://10.0.0.1/", "https://169.254.169.254/", "http://[::1]/"):
        await user.post("/webhooks", body | {"url": url}, code=403)
    path = "界" * 300  # longer than it looks
    for bad in ("ftp://example.com/", "http://93.184.216.34/", "https://u@example.com/", f"https://example.com/{path}"):
        await user.post("/webhooks", body | {"url": bad}, code=400)
    for events in ([], ["task.exploded"], ["node.gone"], "task.ended", None):
        await user.post("/webhooks", body | {"events": events}, code=400)
    for path in (
        "/webhooks/wh_none/test",
        "/webhooks/wh_none/rotate",
        "/deliveries/dlv_0/replay",
        "/deliveries/9/replay",
    ):
        await user.post(path, code=404)


async def test_an_owner_has_twenty_at_most(make_caller):
    caller = await make_caller("user", "user_many")
    made = [await caller.post("/webhooks", {"url": "https://192.0.3.1/", "events": ENDED}) for _ in range(20)]
    await caller.post("/webhooks", {"url": "https://192.0.3.1/", "events": ENDED}, code=400)
    for one in made:
        await caller.ask("DELETE", f"/webhooks/{one['webhookId']}")
    assert await caller.get("/webhooks") == []

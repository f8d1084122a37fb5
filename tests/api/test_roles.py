"""Calls that each role may make, and on whose tasks and GPUs (INVARIANTS, "Who may call what")."""

from __future__ import annotations

import asyncio
import itertools
import json
from functools import partial

import pytest

from tests.conftest import eventually
from tests.fake_node import FakeNode

TASK = {"taskType": 220, "userId": "alice", "app": "tests", "payload": "{}"}


async def total(api, path):
    response = await api.http.get(path)
    assert response.status_code == 200
    return [one["taskId"] for one in response.json()["data"]], int(response.headers["X-Total-Count"])


async def test_a_user_creates_and_sees_their_own(api, make_caller):
    alice, bob = await make_caller("user", "roles alice"), await make_caller("user", "roles bob")
    body = TASK | {"userId": "roles alice"}
    ids = [(await alice.post("/tasks", body))["taskId"] for _ in range(3)][::-1]
    await bob.post("/tasks", body, code=403)
    await alice.post("/tasks", body | {"userId": "roles bob"}, code=403)
    theirs = await bob.create(221, userId="roles bob")

    assert await total(alice, "/tasks") == (ids, 3)
    assert await total(alice, "/tasks?size=1&page=2") == (ids[1:2], 3)
    assert await total(bob, "/tasks") == ([theirs], 1)
    assert await total(alice, "/tasks?taskType=221") == ([], 0)
    assert await total(alice, "/tasks?status=QUEUED&taskType=220") == (ids, 3)
    assert await total(alice, "/tasks?status=COMPLETED") == ([], 0)
    everybody, count = await total(api, "/tasks?taskType=220&size=100")
    assert set(everybody) >= set(ids)
    assert count == len(everybody)
    for part in ("", "/progress", "/result", "/events"):
        await alice.get(f"/tasks/{ids[0]}{part}")
        await api.get(f"/tasks/{ids[0]}{part}")
        await bob.get(f"/tasks/{ids[0]}{part}", code=404)
    assert (await alice.get(f"/tasks/{ids[0]}/events"))[0]["actor"] == f"key:{alice.made.key_id}"


async def test_two_keys_of_one_owner_see_the_same(make_caller):
    one, two = await make_caller("user", "twin"), await make_caller("user", "twin")
    task_id = await one.create(222, userId="twin")
    assert await total(two, "/tasks") == ([task_id], 1)
    await two.get(f"/tasks/{task_id}")


async def test_a_key_that_acts_for_others_creates_for_anybody(make_caller):
    gateway = await make_caller("user", "gateway", acts_for_others=True)
    carol, stranger = await make_caller("user", "carol"), await make_caller("user", "stranger", acts_for_others=True)
    task_id = await gateway.create(223, userId="carol")
    assert await total(carol, "/tasks") == ([task_id], 1)
    assert await total(gateway, "/tasks") == ([], 0)  # a list shows what one owns
    await gateway.get(f"/tasks/{task_id}")
    await stranger.get(f"/tasks/{task_id}", code=404)


async def test_an_owner_s_totals_follow_their_tasks(api, make_caller, make_node):
    """Filtered by status and node too, whatever the owner is called."""
    owner = "2:x roles_gpu"
    user, other = await make_caller("user", owner), await make_caller("user", "x")
    node = await make_node("roles_gpu", [224])
    task_id = await user.create(224, userId=owner)
    await other.create(225, userId="x")
    put = await node.next_put()
    await user.until(task_id, "PROCESSING")
    assert await total(user, "/tasks?gpuId=roles_gpu") == ([task_id], 1)
    assert await total(user, "/tasks?gpuId=roles_gpu&status=QUEUED") == ([], 0)
    await api.succeed(put, {"n": 1})
    await user.until(task_id, "COMPLETED")
    for query in ("", "?status=COMPLETED", "?gpuId=roles_gpu", "?gpuId=roles_gpu&status=COMPLETED&taskType=224"):
        assert await total(user, f"/tasks{query}") == ([task_id], 1)
    for query in ("?status=PROCESSING", "?gpuId=roles_gpu&status=PROCESSING", "?gpuId=other"):
        assert await total(user, f"/tasks{query}") == ([], 0)
    assert await total(other, "/tasks?gpuId=roles_gpu") == ([], 0)


NUMBERS = itertools.count()


@pytest.fixture
async def nodes(api, make_caller):
    """Two node keys, each with a GPU that it registered itself; ids of every test's own, since they stay bound."""
    made = []
    for gpu_id in (f"own_gpu_{next(NUMBERS)}", f"own_gpu_{next(NUMBERS)}"):
        caller, node = await make_caller("node", "fleet"), FakeNode(gpu_id)
        await node.start()
        await caller.register(node, [226])
        node.beat_with(partial(caller.http.post, f"/gpus/{gpu_id}/heartbeat"))
        made.append((caller, node))
    yield made
    for caller, node in made:
        await node.stop()
        await caller.http.delete(f"/gpus/{node.gpu_id}")


async def test_a_node_sees_and_moves_its_own_gpu(nodes):
    (one, mine), (two, other) = nodes
    own, foreign = f"/gpus/{mine.gpu_id}", f"/gpus/{other.gpu_id}"
    assert [gpu["gpuId"] for gpu in await one.get("/gpus")] == [mine.gpu_id]
    assert [gpu["gpuId"] for gpu in await two.get("/gpus/by-task-type/226")] == [other.gpu_id]
    assert (await one.get(own))["gpuId"] == mine.gpu_id
    await one.get(foreign, code=404)
    await one.get("/gpus/none", code=404)
    await one.post(f"{own}/heartbeat")
    await one.post(f"{foreign}/heartbeat", code=403)
    await one.post("/gpus/none/heartbeat", code=404)
    await one.post(f"{foreign}/fault?reason=x", code=403)
    await one.post(f"{foreign}/fault", code=403)  # before what is missing
    await one.post(f"{own}/fault", code=400)
    await one.post("/gpus/none/fault?reason=x", code=404)
    await one.post(f"{own}/fault?reason=x")
    assert (await one.get(own))["status"] == "FAULTY"
    await one.post(f"{own}/recover", code=403)
    await one.ask("DELETE", foreign, code=403)
    await one.ask("DELETE", "/gpus/none", code=404)
    assert (await two.get(foreign))["status"] == "ACTIVE"


async def test_a_gpu_id_belongs_to_the_key_that_registered_it_first(api, nodes, make_caller):
    (one, node), (two, _) = nodes
    own = f"/gpus/{node.gpu_id}"
    operator = await make_caller("operator", "ops")
    with pytest.raises(AssertionError, match="403"):
        await two.register(node, [226])
    await one.register(node, [226])
    await api.register(node, [226], hostname="by-admin")  # an administrator may, and takes nothing
    await one.post(f"{own}/heartbeat")
    await one.register(node, [226])
    assert (await operator.get(own))["hostname"] == "test-host"
    await api.ask("DELETE", own)
    with pytest.raises(AssertionError, match="403"):
        await two.register(node, [226])  # it stays bound
    await two.post(f"{own}/heartbeat", code=404)
    await one.register(node, [226])


async def test_of_many_keys_that_register_an_id_at_once_one_has_it(api, make_caller):
    callers = [await make_caller("node", f"racer {n}") for n in range(4)]
    node = FakeNode("raced_gpu")
    await node.start()
    outcomes = await asyncio.gather(*(one.register(node, [227]) for one in callers), return_exceptions=True)
    assert sorted(outcome is None for outcome in outcomes) == [False, False, False, True]
    holder = next(one for one, outcome in zip(callers, outcomes, strict=True) if outcome is None)
    for one in callers:
        await one.post("/gpus/raced_gpu/heartbeat", code=200 if one is holder else 403)
    await holder.ask("DELETE", "/gpus/raced_gpu")
    await node.stop()


async def test_what_an_administrator_registered_is_nobody_s_until_it_is_gone(api, make_caller, make_node):
    caller = await make_caller("node", "late")
    node = await make_node("admin_gpu", [228], beats=False)
    await caller.post("/gpus/admin_gpu/heartbeat", code=403)
    await caller.get("/gpus/admin_gpu", code=404)
    with pytest.raises(AssertionError, match="403"):
        await caller.register(node, [228])
    await api.ask("DELETE", "/gpus/admin_gpu")
    await caller.register(node, [228])
    await caller.post("/gpus/admin_gpu/heartbeat")


async def created(api, nodes):
    """A task that waits at one of the two, its PUT, the holder's caller and the other's."""
    task_id = await api.create(226)
    gets = {asyncio.ensure_future(node.next_put()): caller for caller, node in nodes}
    done, pending = await asyncio.wait(gets, return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()
    (get,) = done
    (other,) = [caller for caller, _ in nodes if caller is not gets[get]]
    put = await get
    assert put.task_id == task_id
    return put, gets[get], other


async def test_only_the_holder_reports(api, nodes):
    put, holder, other = await created(api, nodes)
    for token in (True, False):
        await other.succeed(put, {"n": 1}, token=token, code=403)
        await other.say(put, "PROCESSING", token=token, code=403)
        await other.say(put, "FAILED", token=token, code=403)
    elsewhere = next(node.gpu_id for caller, node in nodes if caller is other)
    body = {"status": "FAILED", "gpuId": elsewhere, "message": ""}
    await other.post(f"/tasks/{put.task_id}/status", body, code=403)
    await holder.post(f"/tasks/{put.task_id}/status", body, code=403)
    await other.post("/tasks/none/result", {"result": "{}"}, code=404)

    await holder.say(put, "PROCESSING", progress=10)
    stale = {"X-Attempt-Token": "stale"}
    await holder.post(f"/tasks/{put.task_id}/result", {"result": "{}"}, headers=stale, code=400)
    await holder.succeed(put, {"n": 1}, token=False)
    await holder.succeed(put, {"n": 1})
    await other.succeed(put, {"n": 1}, code=403)
    done = await api.until(put.task_id, "COMPLETED")
    assert (done["gpuId"], json.loads(done["result"])) == (put.gpu_id, {"n": 1})


async def test_who_held_it_before_is_late_and_no_thief(api, nodes):
    put, first, second = await created(api, nodes)
    await first.say(put, "FAILED", "once")
    other = next(node for caller, node in nodes if caller is second)
    again = await eventually(lambda: _put_of(other), within=30)
    await first.succeed(put, {"n": 1}, code=400)
    await first.post(f"/tasks/{put.task_id}/result", {"result": '{"n": 1}'}, code=400)
    await first.succeed(again, {"n": 1}, code=403)  # the other's token
    await second.succeed(again, {"n": 2})
    assert json.loads((await api.until(put.task_id, "COMPLETED"))["result"]) == {"n": 2}


async def _put_of(node):
    return None if node.puts.empty() else node.puts.get_nowait()


async def test_an_operator_watches_and_repairs(api, make_caller, make_node):
    operator = await make_caller("operator", "roles ops")
    await make_node("ops_gpu", [229])
    task_id = await api.create(230)
    await operator.get(f"/tasks/{task_id}")
    await operator.post("/gpus/ops_gpu/fault?reason=x")
    await operator.post("/gpus/ops_gpu/recover")
    await operator.post("/gpus/ops_gpu/fault", code=400)
    (alert,) = await operator.alerts("ops_gpu")
    await operator.post(f"/monitoring/alerts/{alert['id']}/acknowledge")
    assert (await operator.alerts("ops_gpu"))[0]["acknowledgedBy"] == "roles ops"
    await operator.ask("DELETE", "/gpus/ops_gpu", code=403)
    await operator.post("/tasks", TASK, code=403)
    await operator.get("/audit", code=403)

"""Calls that come too often, and too many tasks at once: 429 with Retry-After.

The applications here are the real ones with small limits, on the stack's Postgres, Redis and Temporal.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from api.app import create_app
from api.dependencies import Context
from api.middleware import rate_limit as limits
from api.routes import webhooks
from infra.cache import Cache
from infra.db.session import Database
from infra.db.slots.forecast import Forecast
from infra.db.webhooks import deliveries
from infra.nodes.address_policy import AllowList
from infra.nodes.own_services import OwnServices
from infra.resilience.token_bucket import ByteRate, Rate, RoleRate
from infra.settings import Settings
from infra.temporal.access import connect
from infra.temporal.gateway import TemporalGateway
from infra.webhooks.addresses import ReceiverAddresses
from infra.webhooks.sender import Sender
from tests.conftest import Api
from workflows.domain.key_limits import KeyLimits

SMALL = {"rate_limits": {"user": {"rate": 0.001, "burst": 5}, "node": {"rate": 0.001, "burst": 3}}}
WIDER = {"rate_limits": {"user": {"rate": 0.001, "burst": 23}}}
"""Room for a bulk call, twice, and three others."""
MESSAGE = {"code": 429, "message": "请求过于频繁，请稍后重试", "data": None}


@pytest.fixture
async def serve(stack):
    """Makes an application with settings of its own; the answer makes a client of it from a key."""
    async with AsyncExitStack() as closing:

        async def make(redis="", **chosen):
            settings = Settings(
                database_url=stack.services.database_url,
                temporal_address=stack.services.temporal_address,
                **chosen,
            )
            database = Database(stack.services.database_url, connections=10)
            cache = Cache.connect(redis or stack.services.redis_url)
            gateway = TemporalGateway(await connect(settings), settings)
            own = OwnServices(settings)
            allowed, receivers = AllowList.of_nodes(settings, own), Sender(ReceiverAddresses(settings, own))
            instance = type("Instance", (), {"id": "in the tests", "leads": False})()
            app = create_app(
                Context(database, cache, gateway, settings, instance, Forecast(database), allowed, receivers)
            )
            closing.push_async_callback(database.close)
            closing.push_async_callback(cache.close)

            async def client(key):
                transport = httpx.ASGITransport(app=app)
                headers = {"Authorization": f"Bearer {key}"}
                http = httpx.AsyncClient(transport=transport, base_url="http://test/api/v2", headers=headers)
                return Api(await closing.enter_async_context(http), stack, key)

            return client

        yield make


async def statuses(caller, count, path="/monitoring/health"):
    return [(await caller.http.get(path)).status_code for _ in range(count)]


async def test_a_batch_counts_as_a_call_for_each_ten_tasks(serve, make_caller, api):
    """A batch never counts as more than the whole bucket."""
    user, other = [await make_caller("user", "somebody") for _ in range(2)]
    task = {"taskType": 706, "userId": "somebody", "app": "a", "payload": "{}"}
    caller = await (await serve(**SMALL))(user.key)
    sizes = [(caller, 21), (caller, 21), (caller, 10), (await (await serve(**SMALL))(other.key), 60), (caller, 1)]
    answers = [await one.http.post("/tasks/batch", json={"tasks": [task] * count}) for one, count in sizes]
    assert [answer.status_code for answer in answers] == [200, 429, 200, 200, 429]
    for created in (one for answer in answers for one in answer.json()["data"] or []):
        await api.post(f"/tasks/{created['taskId']}/cancel")


async def test_a_replay_of_a_time_range_counts_as_a_bulk_call(serve, make_caller):
    caller = await (await serve(**WIDER))((await make_caller("user", "replays")).key)
    made = (await caller.post("/webhooks", {"url": "https://192.0.3.1/", "events": ["task.ended"]}))["webhookId"]
    span = {"from": 0, "to": 1}
    answers = [await caller.http.post(f"/webhooks/{made}/replay", json=span) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.json()["data"] for answer in answers[:2]] == [{"matched": 0}] * 2
    assert await caller.ask("DELETE", f"/webhooks/{made}") == "Webhook已删除"


async def test_deliveries_are_paged_as_far_as_they_are_counted(serve, make_caller, monkeypatch):
    caller = await (await serve())((await make_caller("user", "pages")).key)
    made = (await caller.post("/webhooks", {"url": "https://192.0.3.1/", "events": ["task.ended"]}))["webhookId"]
    for _ in range(3):
        await caller.post(f"/webhooks/{made}/test")

    async def page(number: int) -> httpx.Response:
        return await caller.http.get(f"/webhooks/{made}/deliveries?size=1&page={number}")

    whole = await page(3)
    assert (whole.headers["X-Total-Count"], whole.headers["X-Total-Count-Exact"]) == ("3", "true")
    for module in (deliveries, webhooks):
        monkeypatch.setattr(module, "MOST_COUNTED", 2)
    cut = await page(2)
    assert (cut.headers["X-Total-Count"], cut.headers["X-Total-Count-Exact"]) == ("2", "false")
    assert set(cut.links) == {"first", "prev"}
    assert (await page(3)).status_code == 400
    await caller.ask("DELETE", f"/webhooks/{made}")


async def test_a_key_may_call_so_often(serve, make_caller, api):
    """All API processes together; no other key, and neither operators nor administrators, have a part in it."""
    user, other, operator = [await make_caller(role, "limits") for role in ("user", "user", "operator")]
    one, two = await serve(**SMALL), await serve(**SMALL)
    here, there = await one(user.key), await two(user.key)
    assert await statuses(here, 3) + await statuses(there, 2) == [200] * 5
    for caller, path in ((here, "/monitoring/health"), (there, "/tasks"), (here, "/nothing"), (there, "/gpus")):
        response = await caller.http.get(path)
        assert (response.status_code, response.json()) == (429, MESSAGE)
        assert 900 <= int(response.headers["Retry-After"]) <= 1000
    assert await statuses(await one(other.key), 6) == [200] * 5 + [429]
    for key in (operator.key, api.key):
        assert await statuses(await one(key), 20) == [200] * 20


async def test_each_role_has_its_rate(serve, make_caller):
    node = await (await serve(**SMALL))((await make_caller("node", "limits")).key)
    assert await statuses(node, 4, "/gpus") == [200] * 3 + [429]


async def test_the_usual_burst_is_admitted(serve, make_caller):
    """200 at once; what is left of 50/s after that depends on the clock."""
    user = await (await serve())((await make_caller("user", "limits")).key)
    answers = await asyncio.gather(*(user.http.get("/nothing") for _ in range(200)))
    assert {answer.status_code for answer in answers} == {404}


async def test_without_redis_each_process_counts_for_itself(serve, make_caller, tmp_path):
    key = (await make_caller("user", "limits")).key
    for _ in range(2):
        client = await serve(redis=f"unix://{tmp_path}/nothing.sock", **SMALL)
        assert await statuses(await client(key), 6) == [200] * 5 + [429]


async def test_what_needs_no_limit_does_not_ask_redis(serve, make_caller, api, monkeypatch):
    async def never(*_):
        raise AssertionError

    monkeypatch.setattr(Cache, "take", never)
    client = await serve(**SMALL)
    assert await statuses(await client(api.key), 2) == [200, 200]


async def test_a_key_that_is_wrong_empties_no_bucket(serve, make_caller):
    key = (await make_caller("user", "limits")).key
    client = await serve(**SMALL)
    assert await statuses(await client("wrong"), 10) == [401] * 10
    assert await statuses(await client(key), 6) == [200] * 5 + [429]


async def test_the_script_counts_as_the_program_does(stack):
    cache = Cache.connect(stack.services.redis_url)
    slow, fast = Rate(rate=0.01, burst=3), Rate(rate=1000, burst=2)
    waits = [await cache.take("script slow", slow) for _ in range(5)]
    assert waits[:3] == [0, 0, 0]
    assert all(98 < (wait or 0) <= 100 for wait in waits[3:])
    wait: float | None = None
    while not wait:  # 1000/s: a token is back a millisecond later
        wait = await cache.take("script fast", fast)
    assert 0 < wait <= 0.001
    await asyncio.sleep(wait)
    assert await cache.take("script fast", fast) == 0
    await cache.close()


async def test_what_was_charged_too_much_is_given_back(stack):
    cache, limit = Cache.connect(stack.services.redis_url), ByteRate(rate=1000, burst=5000)
    waits = [await cache.charge("given back", limit, count) for count in (9000, -9000, 5000, 9000)]
    assert waits == pytest.approx([4, 0, 0, 9], abs=0.5)
    await cache.close()


async def create(caller, owner, code=200, **headers):
    body = {"taskType": 260, "userId": owner, "app": "tests", "payload": "{}"}
    response = await caller.http.post("/tasks", json=body, headers=headers)
    assert response.status_code == response.json()["code"] == code
    return response


async def test_the_waiting_tasks_of_an_owner_are_limited(serve, make_caller, api):
    owner = "hoarder"
    client = await serve(max_waiting=3)
    user = await client((await make_caller("user", owner)).key)
    answers = await asyncio.gather(
        *(
            user.http.post("/tasks", json={"taskType": 260, "userId": owner, "app": f"a{n}", "payload": "{}"})
            for n in range(10)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 7
    refused = await create(user, owner, 429)
    assert refused.json()["message"] == "等待中的任务已达上限，请稍后重试"
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await user.http.get("/tasks")).headers["X-Total-Count"] == "3"
    await create(await client((await make_caller("user", "modest")).key), "modest")
    await create(await client((await make_caller("user", owner)).key), owner, 429)  # another key of the same owner
    admin = await client(api.key)
    task_id = (await create(admin, owner)).json()["data"]["taskId"]  # an administrator has no cap
    await admin.post(f"/tasks/{task_id}/cancel")
    await admin.post(f"/tasks/{task_id}/retry", code=429)  # a retry has that of the owner


async def test_a_repeat_is_no_task_more(serve, make_caller):
    owner = "repeater"
    user = await (await serve(max_waiting=1))((await make_caller("user", owner)).key)
    header = {"Idempotency-Key": "the one"}
    first = (await create(user, owner, **header)).json()["data"]["taskId"]
    assert (await create(user, owner, **header)).json()["data"]["taskId"] == first
    await create(user, owner, 429)
    await create(user, owner, 429, **{"Idempotency-Key": "another"})
    changed = {"taskType": 261, "userId": owner, "app": "tests", "payload": "{}"}
    assert (await user.http.post("/tasks", json=changed, headers=header)).status_code == 400


async def test_a_task_that_runs_waits_no_more(serve, make_caller, make_node, api):
    owner = "worker"
    user = await (await serve(max_waiting=1))((await make_caller("user", owner)).key)
    await create(user, owner)
    await create(user, owner, 429)
    node = await make_node("capped_gpu", [260])
    put = None
    while put is None or put.body["context"]["userId"] != owner:  # others of this file wait too
        if put is not None:
            await api.succeed(put, {"n": 1})
        put = await node.next_put()
    await api.until(put.task_id, "PROCESSING")
    await create(user, owner)


async def test_registrations_have_a_rate_of_their_own(serve, make_caller, monkeypatch):
    """The rate is checked before the body; a granted fleet may start at once, and nothing else is refused with it."""
    monkeypatch.setattr(limits, "REGISTRATIONS_AT_ONCE", 2)
    serving = await serve()
    small = await serving((await make_caller("node", "limits")).key)
    large = await serving((await make_caller("node", "limits", limits=KeyLimits(max_gpus=4))).key)
    for client, burst in ((small, 2), (large, 4)):
        answers = [await client.http.post("/gpus/register", json={}) for _ in range(burst + 1)]
        assert [answer.status_code for answer in answers] == [400] * burst + [429]
        assert answers[-1].headers["Retry-After"] == "1"
        assert await statuses(client, 3, "/gpus") == [200] * 3
    free = await (await serve(rate_limits={"node": {"rate": 0, "burst": 1}}))(small.key)
    assert (await free.http.post("/gpus/register", json={})).status_code == 400


async def places(callers_tasks):
    return [(await caller.get(f"/tasks/{task}/progress"))["queuePosition"] for caller, task in callers_tasks]


async def test_shares_follow_keys_not_words(serve, make_caller, api):
    """Ten tasks in ten invented apps, by two keys of one owner, behind older ones of another owner and of an app."""
    serving = await serve(app_weights={"heavy": 100})
    greedy = [await serving((await make_caller("user", "greedy")).key) for _ in range(2)]
    modest = await serving((await make_caller("user", "modest one")).key)
    gateway = await serving((await make_caller("user", "gateway", acts_for_others=True)).key)
    body = {"taskType": 263, "payload": "{}", "priority": 9}

    async def ask(caller, owner, app):
        return caller, (await caller.post("/tasks", body | {"userId": owner, "app": app}))["taskId"]

    older = [await ask(modest, "modest one", "m") for _ in range(14)]
    older += [await ask(gateway, f"user {number}", "g") for number in range(14)]
    mine = [await ask(greedy[number % 2], "greedy", f"heavy{number or ''}") for number in range(10)]
    heavy = await ask(greedy[0], "greedy", "heavy")
    found = await places([*mine, heavy])
    assert found == sorted(found)
    assert all(place > 3 * number for number, place in enumerate(found))  # two others have their turns in between
    assert len(set(await places(older)) | set(found)) == len(older) + len(found)


FEW_BYTES = {
    "rate_limits": {
        role: RoleRate.model_construct(rate=1000, burst=1000, bytes=1000, bytes_burst=250_000)  # lower than one may set
        for role in ("user", "node")
    }
}


async def chunks(size):
    for _ in range(0, size, 50_000):
        yield b"x" * 50_000


@pytest.mark.parametrize("chunked", [False, True])
async def test_bytes_have_a_rate_too(serve, make_caller, chunked):
    """The rate holds for all API processes together, and for the keys of one lineage; refused bytes count as well."""
    user, other = [await make_caller("user", "limits") for _ in range(2)]
    one, two = await serve(**FEW_BYTES), await serve(**FEW_BYTES)
    here, there = await one(user.key), await two(user.key)
    for client in (here, there, here):
        content = chunks(100_000) if chunked else b"x" * 100_000
        assert (await client.http.post("/tasks", content=content)).status_code == 400
    response = await here.http.get("/monitoring/health")
    assert (response.status_code, response.json()) == (429, MESSAGE)
    assert 30 <= int(response.headers["Retry-After"]) <= 51
    assert await statuses(await two(other.key), 1) == [200]


async def test_answers_are_paid_for(serve, make_caller, api):
    user = await (await serve(**FEW_BYTES))((await make_caller("user", "reader")).key)
    body = {"taskType": 261, "userId": "reader", "app": "a", "payload": "x" * 150_000}
    task_id = (await api.post("/tasks", body))["taskId"]
    assert await statuses(user, 3, f"/tasks/{task_id}") == [200, 200, 429]


async def test_a_node_in_debt_beats_on(serve, make_caller):
    node = await (await serve(**FEW_BYTES))((await make_caller("node", "limits")).key)
    for _ in range(3):
        await node.http.post("/tasks/none/result", content=b"x" * 100_000)
    assert (await node.http.post("/gpus/none/heartbeat")).status_code == 404
    assert (await node.http.post("/tasks/none/result", content=b"x")).status_code == 429


async def test_without_redis_each_process_counts_bytes_for_itself(serve, make_caller, tmp_path):
    key = (await make_caller("user", "limits")).key
    for _ in range(2):
        client = await (await serve(redis=f"unix://{tmp_path}/nothing.sock", **FEW_BYTES))(key)
        answers = [(await client.http.post("/tasks", content=b"x" * 100_000)).status_code for _ in range(4)]
        assert answers == [400, 400, 400, 429]

"""Server-sent events: what is missed is made up for, what ends, and what a stream may not keep from others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from api.routes.streams import AT_ONCE
from infra.db.access import api_keys
from infra.db.access.audit import Actor
from infra.db.ops import event_log
from infra.db.session import Database
from tests.conftest import TLS, Api, eventually
from tests.e2e.inside import change
from workflows.domain.role import Role

TYPE = 761


@asynccontextmanager
async def opened(api: Api, path: str, last: str | None = None) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """A stream of server-sent events."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with aconnect_sse(api.http, "GET", path, headers=headers) as source:
        assert source.response.status_code == 200, await source.response.aread()
        yield source.aiter_sse()


async def take(stream: AsyncIterator[ServerSentEvent], until: str, within: float = 10.0) -> list[ServerSentEvent]:
    """The events up to the first of a name."""
    found: list[ServerSentEvent] = []
    async with asyncio.timeout(within):
        async for one in stream:
            found.append(one)
            if one.event == until:
                return found
    raise AssertionError(f"the stream ended after {[one.event for one in found]}")


async def until_reason(stream: AsyncIterator[ServerSentEvent], part: str) -> None:
    while part not in json.loads((await take(stream, "place"))[-1].data)["reason"]:
        pass


async def now(api: Api) -> str:
    return (await api.http.get("/events?after=now")).headers["X-Next-Cursor"]


async def listed(api: Api, cursor: str) -> list[dict[str, Any]]:
    return [one for one in await api.get(f"/events?after={cursor}&limit=1000") if one.get("taskId")]


async def run(api: Api, node: Any) -> str:
    """A task that runs to its end."""
    task_id = await api.create(TYPE)
    put = await node.next_put()
    await api.say(put, "PROCESSING", progress=40)
    await api.succeed(put, {"n": 1})
    await api.until(task_id, "COMPLETED")
    return task_id


async def test_a_stream_says_what_is_listed(api, make_node):
    node = await make_node("streams_node", [TYPE])
    cursor = await now(api)
    async with opened(api, f"/stream?after={cursor}&types=task.created,task.started,task.ended") as stream:
        task_id = await run(api, node)
        live = [one for one in await take(stream, "task.ended") if json.loads(one.data)["taskId"] == task_id]
    assert [one.event for one in live] == ["task.created", "task.started", "task.ended"]
    found = [one for one in await listed(api, cursor) if one["taskId"] == task_id]
    assert [json.loads(one.data) for one in live] == found
    assert [one.id for one in live] == [one["id"] for one in found]
    async with opened(api, "/stream?types=task.started,task.ended", last=live[0].id) as again:
        resumed = [one for one in await take(again, "task.ended") if json.loads(one.data)["taskId"] == task_id]
    assert [one.id for one in resumed] == [one.id for one in live[1:]]


async def test_a_task_s_stream_ends_with_it(api, make_node):
    node = await make_node("streams_task", [TYPE])
    task_id = await api.create(TYPE)
    put = await node.next_put()
    async with opened(api, f"/tasks/{task_id}/stream") as stream:
        begun = await anext(stream)
        snapshot = json.loads(begun.data)
        assert (begun.event, snapshot["taskId"], snapshot["payload"]) == ("snapshot", task_id, None)
        await api.say(put, "PROCESSING", progress=40)
        seen = await take(stream, "progress")
        while json.loads(seen[-1].data)["progress"] != 40:  # an estimate, from before the report
            seen += await take(stream, "progress")
        await api.succeed(put, {"n": 1})
        seen += await take(stream, "end")
        assert [one async for one in stream] == []
    statuses = [json.loads(one.data)["data"]["status"] for one in seen if one.event == "status"]
    timeline = [one["to"] for one in await api.get(f"/tasks/{task_id}/events")]
    assert ["QUEUED", *statuses] == timeline or [snapshot["status"], *statuses] == timeline[1:]
    assert json.loads(next(one for one in seen if one.event == "attempt").data) == {
        "attempt": 1, "gpuId": "streams_task"}  # fmt: skip
    assert json.loads(seen[-1].data)["status"] == "COMPLETED"
    async with opened(api, f"/tasks/{task_id}/stream", last=begun.id) as again:
        resumed = await take(again, "end")
    ids = [one.id for one in seen if one.event == "status"]
    assert [one.id for one in resumed if one.event == "status"] == ids
    async with opened(api, f"/tasks/{task_id}/stream", last=ids[-1]) as again:
        assert [one.event for one in await take(again, "end")] == ["end"]
    async with opened(api, f"/tasks/{task_id}/stream") as late:
        assert [one.event for one in await take(late, "end")] == ["snapshot", "end"]


async def test_a_waiting_task_s_place_is_sent(api):
    first, second = await api.create(TYPE), await api.create(TYPE)
    async with opened(api, f"/tasks/{second}/stream") as stream:
        assert json.loads((await take(stream, "place"))[-1].data)["queuePosition"] == 2
        await api.post(f"/tasks/{first}/cancel")
        assert json.loads((await take(stream, "place"))[-1].data)["queuePosition"] == 1
        await api.post(f"/tasks/{second}/cancel")
        assert json.loads((await take(stream, "end"))[-1].data)["endReason"] == "CANCELLED"


async def test_a_waiting_task_s_reason_follows_the_fleet(api, make_node):
    node = await make_node("streams_full", [TYPE], maxConcurrentTasks=1)
    await api.create(TYPE)
    put = await node.next_put()
    waiting = await api.create(TYPE)
    async with opened(api, f"/tasks/{waiting}/stream") as stream:
        await until_reason(stream, "1 full")
        await api.post(f"/gpus/{node.gpu_id}/drain", {"reason": "fan"})
        await until_reason(stream, "1 draining")
        await api.post(f"/gpus/{node.gpu_id}/fault?reason=fan")
        await until_reason(stream, "1 faulty")
    for task_id in (waiting, put.task_id):
        await api.post(f"/tasks/{task_id}/cancel")


MANY = """
    INSERT INTO event_log (xid, type, task_id, data)
    SELECT event_stamp(), 'task.retried', '{}', '{{}}' FROM generate_series(1, {})
    """


async def test_a_task_s_stream_makes_up_for_more_than_a_page(api, stack):
    """A task can be handed back any number of times."""
    task_id = await api.create(TYPE)
    cursor = await now(api)
    await change(stack, MANY.format(task_id, 2 * event_log.MOST + 7))
    await api.post(f"/tasks/{task_id}/cancel")
    async with opened(api, f"/tasks/{task_id}/stream", last=cursor) as stream:
        seen = await take(stream, "end")
    kinds = [json.loads(one.data)["type"] for one in seen if one.event == "status"]
    assert (kinds.count("task.retried"), kinds[-1]) == (2 * event_log.MOST + 7, "task.ended")


async def test_users_follow_their_own(make_caller):
    alice, bob = await make_caller("user", "streams alice"), await make_caller("user", "streams bob")
    cursor = await now(alice)
    async with opened(alice, f"/stream?after={cursor}") as stream:
        await bob.create(TYPE, userId="streams bob")
        own = await alice.create(TYPE, userId="streams alice")
        assert json.loads((await anext(stream)).data)["taskId"] == own
    await bob.get(f"/tasks/{own}/stream", code=404)


async def test_a_foreign_cursor_is_reset(api):
    async with opened(api, "/stream?after=evt_00000000_1_1") as stream:
        assert (await anext(stream)).event == "reset"


async def test_a_stream_that_breaks_before_its_first_event_has_a_place_to_resume(api):
    async with api.http.stream("GET", "/stream?after=now") as broken:
        place = broken.headers["X-Next-Cursor"]
    task_id = await api.create(TYPE)
    async with opened(api, "/stream?after=now&types=task.created", last=place) as stream:
        assert json.loads((await anext(stream)).data)["taskId"] == task_id
    async with api.http.stream("GET", "/stream?after=evt_00000000_1_1") as reset:
        assert "X-Next-Cursor" not in reset.headers
    await api.post(f"/tasks/{task_id}/cancel")


@pytest.mark.parametrize("query", ["after=5", "types=task.done"])
async def test_what_is_malformed_is_refused(api, query):
    await api.get(f"/stream?{query}", code=400)


@pytest.mark.parametrize("path", ["/stream", "/tasks/{task_id}/stream"])
async def test_a_malformed_last_event_id_is_refused(api, path):
    task_id = await api.create(TYPE)
    await api.get(path.format(task_id=task_id), code=400, headers={"Last-Event-ID": "5"})


@pytest.mark.parametrize("path", ["/stream", "/tasks/{task_id}/stream"])
async def test_head_ends_at_once(api, path):
    task_id = await api.create(TYPE)
    response = await api.http.head(path.format(task_id=task_id))
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")


async def test_a_stream_ends_with_its_key(make_caller, stack):
    caller = await make_caller("user", "streams revoked")
    database = Database(stack.services.database_url, connections=1)
    async with opened(caller, "/stream?after=now") as stream:
        await database.run(lambda c: api_keys.revoke(c, caller.made.key_id, Actor(None, "tests", None)))
        async with asyncio.timeout(2.0):
            assert [one async for one in stream] == []
    await database.close()


async def test_streams_take_no_turns_and_are_bounded(make_caller):
    caller = await make_caller("user", "streams many")
    all_open, gate = asyncio.Barrier(AT_ONCE[Role.USER] + 1), asyncio.Event()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=caller.http.base_url, headers=caller.http.headers, limits=limits, trust_env=False, verify=TLS
    ) as http:

        async def hold() -> None:
            await eventually(held, within=60)  # refused beyond the rate of calls

        async def held() -> bool:
            async with http.stream("GET", "/stream?after=now") as response:
                if response.status_code == 429:
                    return False
                await all_open.wait()
                await gate.wait()
                return True

        async def is_refused() -> bool:
            async with http.stream("GET", "/stream?after=now") as response:
                return "事件流" in (await response.aread()).decode()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE[Role.USER]):
                group.create_task(hold())
            await all_open.wait()
            await eventually(is_refused)
            await eventually(lambda: _answers(caller))
            gate.set()
    await eventually(lambda: _opens(caller))


async def _answers(caller: Api) -> bool:
    return (await caller.http.get("/tasks")).status_code == 200


async def _opens(caller: Api) -> bool:
    async with caller.http.stream("GET", "/stream?after=now") as response:
        return response.status_code == 200

"""`GET /events`: what has happened, from a cursor on, to those who may see it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Api
from workflows.domain.event import EventType

TYPE = 760


async def page(api: Api, query: str = "") -> tuple[list[Any], str]:
    """A page of events, and the cursor to go on with."""
    response = await api.http.get(f"/events{query}")
    assert response.status_code == 200, response.text
    assert api.contract is not None
    api.contract.check(response)
    return response.json()["data"], response.headers["X-Next-Cursor"]


async def behind(api: Api, cursor: str, query: str = "", size: int = 1000) -> list[Any]:
    """All events behind a cursor, a page at a time."""
    found: list[Any] = []
    while True:
        events, following = await page(api, f"?after={cursor}&limit={size}{query}")
        if not events:
            return found
        assert len(events) < size or following == events[-1]["id"]
        found, cursor = found + events, following


async def now(api: Api) -> str:
    return (await page(api, "?after=now"))[1]


async def test_a_task_s_events_are_its_timeline(api, make_node):
    cursor = await now(api)
    node = await make_node("events_node", [TYPE])
    task_id = await api.create(TYPE)
    put = await node.next_put()
    await api.say(put, "PROCESSING")
    await api.succeed(put, {"n": 1})
    await api.until(task_id, "COMPLETED")
    events = [one for one in await behind(api, cursor, size=1) if one.get("taskId") == task_id]
    assert [one["type"] for one in events] == ["task.created", "task.started", "task.ended"]
    timeline = await api.get(f"/tasks/{task_id}/events")
    assert [(one["data"]["seq"], one["data"]["status"], one["time"]) for one in events] == [
        (one["seq"], one["to"], one["at"]) for one in timeline
    ]
    assert events[-1]["gpuId"] == "events_node"
    assert events[-1]["data"]["endReason"] == "COMPLETED"
    registered = [one for one in await behind(api, cursor, "&types=node.registered") if one["gpuId"] == "events_node"]
    assert len(registered) == 1
    assert await behind(api, cursor, "&types=node.registered,node.registered") == await behind(
        api, cursor, "&types=node.registered"
    )
    whole = await behind(api, cursor)
    assert (await behind(api, cursor, size=3))[: len(whole)] == whole  # an alert may end meanwhile


async def test_users_see_their_own(make_caller, api):
    cursor = await now(api)
    alice, bob = await make_caller("user", "events alice"), await make_caller("user", "events bob")
    gateway = await make_caller("user", "events gateway", acts_for_others=True)
    own = await alice.create(TYPE, userId="events alice")
    for_her = await gateway.create(TYPE, userId="events alice")
    for caller, seen in ((alice, [own, for_her]), (bob, []), (gateway, [for_her])):
        assert [one["taskId"] for one in await behind(caller, cursor)] == seen
    assert await behind(alice, cursor, "&types=node.registered,alert.raised") == []
    for task_id in (own, for_her):
        await api.post(f"/tasks/{task_id}/cancel")
    ended = await behind(alice, cursor, "&types=task.ended")
    assert [one["data"]["endReason"] for one in ended] == ["CANCELLED", "CANCELLED"]


async def test_without_a_cursor_the_oldest_come_first(api):
    first, _ = await page(api, "?limit=2")
    second, _ = await page(api, f"?limit=1&after={first[0]['id']}")
    assert second == first[1:]


async def test_a_foreign_cursor_is_reset(api):
    everything, _ = await page(api, "?limit=3")
    for limit in (1, 3):
        events, following = await page(api, f"?after=evt_00000000_1_1&limit={limit}")
        assert events[0]["type"] == "reset"
        assert events[1:] == everything[: limit - 1]
        assert following == events[-1]["id"]
        assert (await page(api, f"?after={following}&limit=1"))[0] == everything[limit - 1 : limit]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=", "after"),
        ("after=5", "after"),
        ("after=evt_0_0_0", "after"),
        ("types=", "types"),
        ("types=task.done", "types"),
        ("types=task.ended,", "types"),
        ("types=reset", "types"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
    ],
)
async def test_what_is_malformed_is_refused(api, query, field):
    response = await api.http.get(f"/events?{query}")
    assert (response.status_code, response.json()["message"].split()[1]) == (400, field)


async def test_every_type_is_known(api):
    await page(api, f"?types={','.join(EventType)}&limit=1")

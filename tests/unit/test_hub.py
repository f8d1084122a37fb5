"""The hub: each subscriber gets its own events, once; who is too slow is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest

from api.routes import streams
from infra.db.ops.event_log import Cursor, Event, Page
from infra.events import hub as hubs
from infra.events.allowance import Allowance, Spent
from infra.events.hub import ALL, Hub, Subscription
from tests.conftest import eventually


def event(place: int, task_id: str = "t", *, type_: str = "task.started", user_id: str = "u") -> Event:
    return Event(place, place, type_, datetime.now(UTC), task_id, None, None, user_id, None, {})


class Log:
    """A database that holds nothing but an event log and live keys."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.keys = {"k"}
        self.is_reset = False
        self.reads = 0
        self.looked = Cursor("00000000", 0, 0)

    async def single(self, work: Callable[[Any], Any]) -> Any:
        name = getattr(work, "func", work).__name__
        if name == "now":
            return Cursor("00000000", 0, 0)
        if name == "live":
            return self.keys
        self.reads += 1
        after = work.keywords["after"]  # type: ignore[attr-defined]
        found = [one for one in self.events if one.xid > after.xid]
        last = [Cursor("00000000", one.xid, one.id) for one in found[-1:]]
        return Page(after, self.is_reset, found, max(after, self.looked, *last))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    for name in ("LEAST_S", "MOST_S", "KEYS_EVERY_S"):
        monkeypatch.setattr(hubs, name, 0.001)
    return Log()


@pytest.fixture
def hub(log: Log) -> Hub:
    return Hub(log)  # type: ignore[arg-type]


async def got(one: Subscription, count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(5):
        while len(found) < count and not one.is_ended:
            found += [each.event.xid for each in await one.next(5)]
    return found


async def test_each_gets_its_own(hub, log):
    async with (
        hub.subscribe([("task", "t1")], "k") as task,
        hub.subscribe([("user", "u"), ("task", "t1")], "k", {"task.ended"}) as ends,
        hub.subscribe([ALL], "k") as everything,
    ):
        for one in (task, ends, everything):
            one.listen()
        log.events = [event(1, "t1"), event(2, "t2"), event(3, "t1", type_="task.ended"), event(4, user_id="v")]
        assert await got(everything, 4) == [1, 2, 3, 4]
        assert await got(task, 2) == [1, 3]
        assert await got(ends, 1) == [3]
    assert len(hub) == 0


async def test_what_was_read_from_the_log_comes_no_second_time(hub, log):
    async with hub.subscribe([ALL], "k") as one, hub.subscribe([ALL], "k") as other:
        one.listen()
        other.listen()
        log.events = [event(1), event(2), event(3)]
        assert await got(other, 3) == [1, 2, 3]
        one.begins_behind(Cursor("00000000", 2, 2))
        assert await got(one, 1) == [3]


async def test_who_is_too_slow_is_ended(hub, log):
    async with hub.subscribe([ALL], "k") as slow:
        slow.listen()
        log.events = [event(place) for place in range(1, hubs.BUFFER + 2)]
        async with hub.subscribe([ALL], "k", {"task.ended"}) as other:
            other.listen()
            log.events.append(event(10_000, type_="task.ended"))
            assert await got(other, 1) == [10_000]
        assert slow.is_ended
        assert await slow.next(5) == []


async def test_a_key_that_is_revoked_ends_its_subscriptions(hub, log):
    async with hub.subscribe([ALL], "k") as one, hub.subscribe([ALL], "other") as other:
        assert await other.next(5) == []
        assert (other.is_ended, one.is_ended) == (True, False)


async def test_nothing_is_read_without_subscribers(hub, log):
    async with hub.subscribe([ALL], "k"):
        pass
    assert hub._reader is not None
    await hub._reader
    async with hub.subscribe([ALL], "k") as again:
        again.listen()
        log.events = [event(1)]
        assert await got(again, 1) == [1]


async def test_at_the_end_all_are_ended(hub):
    async with hub.subscribe([ALL], "k") as one:
        hub.close()
        assert await one.next(5) == []
        assert one.is_ended
    async with hub.subscribe([ALL], "k") as late:
        assert late.is_ended


async def test_another_database_ends_all(hub, log):
    async with hub.subscribe([ALL], "k") as one:
        log.is_reset = True
        assert await one.next(5) == []
        assert one.is_ended


def test_an_allowance_counts_by_lineage_and_in_all():
    allowance = Allowance(3)
    first = allowance.take("a", 2)
    allowance.take("a", 2)
    with pytest.raises(Spent):
        allowance.take("a", 2)
    allowance.take("b", None)
    with pytest.raises(Spent):
        allowance.take("c", None)
    first.close()
    first.close()
    allowance.take("a", 2)


async def test_a_subscriber_without_events_knows_how_far_the_log_was_read(hub, log):
    async with hub.subscribe([("task", "t1")], "k") as one, hub.subscribe([ALL], "k") as other:
        one.listen()
        other.listen()
        log.events = [event(5, "t2")]
        assert await got(other, 1) == [5]
        log.looked = Cursor("00000000", 7, 7)
        await eventually(lambda: asyncio.sleep(0, one.taken == log.looked))
        log.events.append(event(8, "t1"))
        await eventually(lambda: asyncio.sleep(0, one.taken is None))  # the event is not taken yet
        assert await got(one, 1) == [8]
        one.begins_behind(Cursor("00000000", 100, 0))  # read from the log already
        assert one.taken is None


async def test_a_ping_has_the_id_to_resume_after(hub, log, monkeypatch):
    monkeypatch.setattr(streams, "PING_S", 0.001)
    async with hub.subscribe([("task", "t1")], "k") as one:
        one.listen()
        log.looked = Cursor("00000000", 7, 7)
        await eventually(lambda: asyncio.sleep(0, one.taken == log.looked))
        async with aclosing(streams._live(one)) as frames:
            assert await anext(frames) == b": ping\nid: evt_00000000_7_7\n\n"

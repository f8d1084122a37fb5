"""The hub: one reader of the event log for each process, and a bounded buffer for each subscriber (ADR 0042).

It reads only while there are subscribers. One that is too slow, or whose key is no longer valid, is ended, as are all
when the process ends; a stream's reader goes on from its cursor.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from functools import partial
from typing import NamedTuple, Self

from infra.db.access import callers
from infra.db.ops import event_log
from infra.db.ops.event_log import Cursor, Event, Whose
from infra.db.session import Database, is_unavailable

log = logging.getLogger(__name__)

LEAST_S, MOST_S, FOR_EACH_S = 0.04, 0.2, 0.001
"""Seconds between two reads: a millisecond for each subscriber, since what comes together is sent together."""
AGAIN_S = 0.5
"""Seconds until a failed read is repeated."""
KEYS_EVERY_S = 1.0
"""Seconds between two checks of the subscribers' keys."""
BUFFER = 1000
"""Events that wait for a subscriber at most."""

Place = tuple[int, int]


class Handed(NamedTuple):
    """An event as it is handed out. `frames` are what its readers have made of it, for the next ones."""

    cursor: Cursor
    event: Event
    frames: dict[str, bytes]


class Subscription:
    """The events for one subscriber. Enter it to begin; leaving it ends it.

    Topics: `("task", id)`, `("user", owner)`, `("lineage", …)`, `ALL`. An event of several of its topics comes once.
    """

    def __init__(
        self, hub: Hub, topics: Iterable[tuple[str, str]], types: Collection[str] | None, key_id: str | None
    ) -> None:
        self.topics = tuple(topics)
        self.key_id = key_id
        self.is_ended = False
        self._hub = hub
        self._types = None if types is None else frozenset(types)
        self._buffer: deque[Handed] = deque()
        self._woken = asyncio.Event()
        self._last: Place = (0, 0)
        self._listens = False

    async def __aenter__(self) -> Self:
        await self._hub.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hub.remove(self)

    def listen(self) -> None:
        """Buffer events from now on. Earlier ones can be read from the log."""
        self._listens = True

    def begins_behind(self, cursor: Cursor) -> None:
        """Drop events up to this cursor: they were read from the log."""
        start = _at(cursor)
        self._last = max(self._last, start)
        self._buffer = deque(one for one in self._buffer if _place(one.event) > start)

    def offer(self, one: Handed) -> None:
        """Buffer an event, or end the subscription if its buffer is full."""
        place = _place(one.event)
        listens = self._listens and not self.is_ended
        if not listens or place <= self._last or not (self._types is None or one.event.type in self._types):
            return
        self._last = place
        if len(self._buffer) >= BUFFER:
            self.end()
        else:
            self._buffer.append(one)
            self._woken.set()

    def end(self) -> None:
        """End it: what is buffered is dropped."""
        self.is_ended = True
        self._buffer.clear()
        self._woken.set()

    @property
    def taken(self) -> Cursor | None:
        """How far the log was handed out, if nothing of that is still buffered."""
        cursor = self._hub.cursor
        return cursor if cursor is not None and not self._buffer and _at(cursor) >= self._last else None

    def wake(self) -> None:
        """Let `next` return now."""
        self._woken.set()

    async def next(self, within_s: float) -> list[Handed]:
        """The events since the last call; empty after `within_s`, after `wake`, and once it has ended."""
        if not self._buffer and not self.is_ended:
            try:
                async with asyncio.timeout(within_s):
                    await self._woken.wait()
            except TimeoutError:
                return []
        self._woken.clear()
        found = list(self._buffer)
        self._buffer.clear()
        return found


def _place(event: Event) -> Place:
    return event.xid, event.id


def _at(cursor: Cursor) -> Place:
    return cursor.xid, cursor.id


ALL = ("all", "")


def topics_of(whose: Whose | None) -> list[tuple[str, str]]:
    """The topics of what a caller may see."""
    return [ALL] if whose is None else [("user", whose.owner), ("lineage", whose.lineage)]


class Hub:
    """Reads the log and hands it out."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._topics: dict[tuple[str, str], dict[Subscription, None]] = defaultdict(dict)
        self._all: dict[Subscription, None] = {}
        self._starting = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._checker: asyncio.Task[None] | None = None
        self.cursor: Cursor | None = None
        """All events up to it were handed out."""
        self._is_closed = False
        self.seen = 0
        """Events that were handed out so far."""

    def __len__(self) -> int:
        return len(self._all)

    def subscribe(
        self, topics: Iterable[tuple[str, str]], key_id: str | None, types: Collection[str] | None = None
    ) -> Subscription:
        """A subscription of these topics; `types` None: of all types; `key_id` None: of this process itself."""
        return Subscription(self, topics, types, key_id)

    async def add(self, one: Subscription) -> None:
        """Start delivering events to a subscriber. Raises what the database raises."""
        if self._is_closed:
            one.end()
            return
        self._all[one] = None
        try:
            await self._start()
        except BaseException:
            self._all.pop(one, None)
            raise
        for topic in one.topics:
            self._topics[topic][one] = None

    def remove(self, one: Subscription) -> None:
        """Stop delivering events to a subscriber."""
        self._all.pop(one, None)
        for topic in one.topics:
            self._topics[topic].pop(one, None)
            if not self._topics[topic]:
                del self._topics[topic]

    @property
    def is_closed(self) -> bool:
        """Whether the process ends."""
        return self._is_closed

    def close(self) -> None:
        """End every subscription, and those to come."""
        self._is_closed = True
        self._end(list(self._all))

    async def _start(self) -> None:
        async with self._starting:
            if self._reader is None or self._reader.done():
                self.cursor = await self._database.single(event_log.now)
                self._checker = asyncio.create_task(self._check_keys())
                self._reader = asyncio.create_task(self._read(self._checker))

    async def _read(self, checker: asyncio.Task[None]) -> None:
        while self._all:
            try:
                page = await self._database.single(partial(event_log.read, after=self.cursor))
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("the event log could not be read")
                await asyncio.sleep(AGAIN_S)
                continue
            if page.is_reset:  # the database is another one: each subscriber has to learn that from its own cursor
                self._end(list(self._all))
            for event in page.events:
                self._hand_out(Handed(page.of(event), event, {}))
            self.cursor = page.until
            if len(page.events) < event_log.MOST:
                await asyncio.sleep(max(LEAST_S, min(FOR_EACH_S * len(self._all), MOST_S)))
        checker.cancel()

    def _hand_out(self, handed: Handed) -> None:
        self.seen += 1
        event = handed.event
        about = (("task", event.task_id), ("user", event.user_id), ("lineage", event.lineage), ALL)
        for kind, name in about:
            for one in list(self._topics.get((kind, name), ())) if name is not None else ():
                one.offer(handed)

    async def _check_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_EVERY_S)
            key_ids = sorted({one.key_id for one in self._all if one.key_id is not None})
            try:
                live = await self._database.single(partial(callers.live, key_ids=key_ids))
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("the keys of streams could not be checked")
                continue
            self._end([one for one in self._all if one.key_id in set(key_ids) - live])

    @staticmethod
    def _end(some: list[Subscription]) -> None:
        for one in some:
            one.end()

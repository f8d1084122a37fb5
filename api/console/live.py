"""Screens: what several people look at is rendered once, about once a second, and only its changed parts are sent."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NamedTuple

from cachetools import LRUCache
from fastapi.sse import format_sse_event

from api.console import rendering
from api.console.page import Asked, Page
from api.console.rendering import Rendering
from api.http.errors import ApiError
from api.routes.events import whose
from infra.db.session import is_unavailable
from infra.events.hub import Handed, Hub, Subscription, topics_of
from infra.json.off_loop import off_loop
from workflows.domain.errors import DomainError
from workflows.domain.role import Role

log = logging.getLogger(__name__)

LEAST_S, URGENT_S = 1.0, 0.25
"""Seconds between two renderings of a page, and those before one that shows an event of a node or an alert."""
SHARE, URGENT_SHARE = 16, 4
"""The same as multiples of the time that the last rendering took: a page takes at most about a sixteenth of a core,
and a fifth while such events keep coming."""
BIG = 2**20
PING_S = 15.0
PING = format_sse_event(data_str="", event="ping")
"""An event, since a browser does not show its script comments: by these it knows that the stream lives."""
STILL_S = 15.0
"""Seconds between two renderings of a page that says that it is still, without events."""
MOST, IDLE_S = 200, 30.0
"""How many screens are kept, and for how many seconds without a viewer."""


class Shown(NamedTuple):
    """A page as it is sent, and which one that is."""

    html: str
    version: str


class Screen:
    """One page as one kind of caller sees it."""

    def __init__(self, page: Page, asked: Asked) -> None:
        self._page = page
        self._asked = asked
        self._id = secrets.token_hex(4)
        self._number = 0
        self._made_at = time.monotonic()
        self._began = self._at = float("-inf")
        self._every_s = page.every_s
        self._took_s = 0.0
        self._now = Rendering()
        self._html = ""
        self._shape_at = 0
        self._changed_at: dict[str, int] = {}
        self._frames: dict[int, bytes] = {}
        self._one_at_a_time = asyncio.Lock()
        self._viewers: dict[Subscription, None] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def shown(self, older_s: float = LEAST_S) -> Shown:
        """The page, at most `older_s` seconds old. Raises what its contents raise."""
        async with self._one_at_a_time:
            if time.monotonic() - self._at >= older_s:
                await self._render()
        return Shown(self._html, f"{self._id}.{self._number}")

    async def _catch_up(self, moment: float) -> None:
        """Render unless the page was read after `moment`. Its age is no proof: a render that began before an event may
        end after it."""
        async with self._one_at_a_time:
            if self._began <= moment:
                await self._render()

    async def _render(self) -> None:
        began = time.monotonic()
        values = await self._page.contents(self._asked)
        read_at = time.monotonic()
        new, self._took_s = await off_loop.run(BIG, lambda: _timed(self._page, self._asked, values))
        self._began, self._at = began, read_at
        old = self._now
        self._every_s = STILL_S if values.get("is_still") else self._page.every_s
        changed = [name for name, part in new.parts.items() if old.parts.get(name) != part]
        if not changed and new.skeleton == old.skeleton and self._number:
            return
        self._number += 1
        self._now, self._html, self._frames = new, new.html(), {}
        self._changed_at |= dict.fromkeys(changed, self._number)
        if new.skeleton != old.skeleton:
            self._shape_at, self._changed_at = self._number, {}
        self._wake()

    async def frames(
        self, hub: Hub, key_id: str, version: str, lives: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[bytes]:
        """The changes since a version, as long as `lives` returns True."""
        seen = self._number_of(version)
        async with hub.subscribe((), key_id, ()) as viewer:
            self._viewers[viewer] = None
            self._keep(hub)
            try:
                yield PING
                while not viewer.is_ended and await lives():
                    if seen != self._number:
                        frame, seen = self._frame(seen), self._number
                        yield frame
                    await viewer.next(PING_S)
                    if seen == self._number and not viewer.is_ended:
                        yield PING
            finally:
                self._viewers.pop(viewer, None)

    def _number_of(self, version: str) -> int:
        name, _, number = version.partition(".")
        return int(number) if name == self._id and number.isdecimal() and len(number) < 10 else -1

    def _frame(self, since: int) -> bytes:
        """The parts that have changed since, made once for all; or that the whole page has."""
        if since not in self._frames:
            body: dict[str, object] = {"version": f"{self._id}.{self._number}"}
            if since >= self._shape_at:
                changed = [name for name, at in self._changed_at.items() if at > since]
                body["parts"] = {name: self._now.part(name) for name in changed}
            self._frames[since] = format_sse_event(data_str=json.dumps(body, ensure_ascii=False), event="update")
        return self._frames[since]

    def _keep(self, hub: Hub) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._follow(hub))

    async def _follow(self, hub: Hub) -> None:
        """Render again after events, and every now and then, while anyone looks. A bug ends the streams: it is logged
        once, and each browser asks for the page again, ever more slowly."""
        while self._viewers and not hub.is_closed:
            try:
                await self._follow_events(hub)
            except (ApiError, DomainError):
                self._reload_viewers()
                await asyncio.sleep(PING_S)
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("a page of the console could not be rendered: %s", self._page.name)
                    for viewer in self._viewers:
                        viewer.end()
                    return
                await asyncio.sleep(LEAST_S)

    def _topics(self) -> list[tuple[str, str]]:
        if self._page.topic is not None:
            return [("task", self._asked.path[self._page.topic])]
        return topics_of(whose(self._asked.caller))

    async def _follow_events(self, hub: Hub) -> None:
        async with hub.subscribe(self._topics(), None, self._page.events) as events:
            events.listen()
            heard, urgent = time.monotonic(), False
            while self._viewers and not events.is_ended:
                await asyncio.sleep(max(0.0, self._at + self._pause_s(urgent=urgent) - heard))
                await self._catch_up(heard)
                found = await events.next(self._every_s)
                heard, urgent = time.monotonic(), _is_urgent(found)

    def _reload_viewers(self) -> None:
        """Let the viewers ask for the whole page once more, and so learn what has become of it."""
        if self._now.skeleton:
            self._number += 1
            self._shape_at, self._now, self._frames = self._number, Rendering(), {}
            self._at = float("-inf")  # so that the next request learns it, too
            self._wake()

    def _wake(self) -> None:
        for viewer in self._viewers:
            viewer.wake()

    def _pause_s(self, *, urgent: bool) -> float:
        return max(URGENT_S, URGENT_SHARE * self._took_s) if urgent else max(LEAST_S, SHARE * self._took_s)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has looked at it for a while. One that is being rendered for the first time is not idle."""
        return not self._viewers and time.monotonic() - max(self._made_at, self._at) > IDLE_S


def _is_urgent(found: list[Handed]) -> bool:
    return any(not one.event.type.startswith("task.") for one in found)


def _timed(page: Page, asked: Asked, values: dict[str, Any]) -> tuple[Rendering, float]:
    """The page, and the seconds of CPU that it takes when its template is compiled."""
    rendering.compile_all(asked.language)
    began = time.thread_time()
    return rendering.page(page, asked, values), time.thread_time() - began


class Screens:
    """All screens that are open in this process."""

    def __init__(self) -> None:
        self._all: LRUCache[tuple[object, ...], Screen] = LRUCache(MOST)

    def of(self, page: Page, asked: Asked) -> Screen:
        """The screen shared by all callers that may see the same."""
        caller = asked.caller
        whose_is_it = (caller.owner, caller.lineage) if caller.role is Role.USER else ()
        key = (page.name, tuple(asked.path.items()), str(asked.query), asked.language, caller.role, *whose_is_it)
        screen: Screen | None = self._all.get(key)
        if screen is None:
            for idle in [each for each, one in self._all.items() if one.is_idle]:
                del self._all[idle]
            screen = self._all[key] = Screen(page, asked)
        return screen

"""The console's script alone: pages, streams and answers are made here, so that each can be late, lost or refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TypeVar
from unittest.mock import MagicMock
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Route, expect

from api.console import assets, rendering
from workflows.domain.role import Role

T = TypeVar("T")
HOST = "http://console.test"
REFUSED = json.dumps({"code": 429, "message": "请求过于频繁", "data": None})
ACTION = (
    '{% from "parts.html" import action %}{{ action("Drain", "POST /api/v2/gpus/g/drain", "Drained",'
    ' confirm="Drain?", verb="Drain it", reason="body") }}'
)


def rows(*names: str) -> str:
    """The content of the live part."""
    return "".join(f'<p id="{name}"><a href="#" id="a-{name}">{name}</a></p>' for name in names)


class Server:
    """What the browser reaches. A stream or page waits until there is an answer for it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.parts: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()
        """Status, body and version of pages without their frame."""
        self.streams: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.asked: list[str] = []
        self.calls: list[object] = []
        self.over = asyncio.Event()

    async def open(self, content: str, version: str = "x.1") -> None:
        """Go to a page with this content."""
        template = rendering.environment("en").get_template("frame.html")
        self._html = template.render(
            content=content, page=None, pages=[], language="en", theme="", here="/console/p", cluster="c",
            caller=MagicMock(owner="o", key_id="k", role=Role.ADMIN), version=version, title=None,
        )  # fmt: skip
        await self.page.route(f"{HOST}/**", self._answer)
        await self.page.goto(f"{HOST}/console/p")

    async def _answer(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        self.asked.append(path + (" part" if "x-part" in route.request.headers else ""))
        if path == "/console/live":
            status, body = await self._next(self.streams, (503, ""))
            await route.fulfill(status=status, body=body, content_type="text/event-stream")
        elif path.startswith("/console/static/"):
            await route.fulfill(path=assets.FOLDER / path.rpartition("/")[2])
        elif path.startswith("/api/"):
            self.calls.append(route.request.post_data_json)
            await route.fulfill(json={"code": 200, "message": "success", "data": {}})
        elif "x-part" in route.request.headers:
            status, body, version = await self._next(self.parts, (503, "", ""))
            kind = "application/json" if body == REFUSED else "text/html"
            await route.fulfill(status=status, body=body, content_type=kind, headers={"X-Version": version})
        else:
            await route.fulfill(body=self._html, content_type="text/html")

    async def _next(self, queue: asyncio.Queue[T], last: T) -> T:
        """The next answer, or the last one at the end of the test."""
        over, found = asyncio.ensure_future(self.over.wait()), asyncio.ensure_future(queue.get())
        await asyncio.wait((over, found), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if found.done():
            return found.result()
        found.cancel()
        return last

    def update(self, version: str, **parts: str) -> None:
        """Let the stream send this, and end."""
        self.streams.put_nowait((200, f"event: update\ndata: {json.dumps({'version': version, 'parts': parts})}\n\n"))


@pytest.fixture
async def server(browser: Browser) -> AsyncIterator[Server]:
    page = await browser.new_page()
    made = Server(page)
    yield made
    made.over.set()
    await page.unroute_all(behavior="wait")
    await page.close()


async def test_the_focus_stays_while_rows_go_and_move(server: Server) -> None:
    await server.open(f'<div id="part">{rows("one", "two", "three")}</div>')
    await server.page.focus("#a-two")
    server.update("x.2", part=rows("two", "three"))
    await expect(server.page.locator("#one")).to_have_count(0)
    await expect(server.page.locator("#a-two")).to_be_focused()
    server.parts.put_nowait((200, f'<div id="part">{rows("three", "new", "two")}</div>', "x.3"))
    await expect(server.page.locator("#new")).to_be_visible()
    await expect(server.page.locator("#a-two")).to_be_focused()


async def test_a_refusal_does_not_end_live_updates(server: Server) -> None:
    await server.open(f'<div id="part">{rows("old")}</div>')
    server.streams.put_nowait((429, ""))
    await expect(server.page.locator("#stale")).to_be_visible()
    server.parts.put_nowait((429, REFUSED, ""))
    server.parts.put_nowait((200, f'<div id="part">{rows("new")}</div>', "x.2"))
    await expect(server.page.locator("#new")).to_be_visible()
    await expect(server.page.locator("#stale")).to_be_hidden()
    server.update("x.3", part=rows("newest"))
    await expect(server.page.locator("#newest")).to_be_visible()


async def test_nothing_older_comes_last(server: Server) -> None:
    await server.open(f'<button data-call="POST /api/v2/x" data-done="d">Do</button><div id="part">{rows("old")}</div>')
    await server.page.get_by_role("button", name="Do").click()
    await expect(server.page.locator(".toast")).to_be_visible()  # the page is asked for now, and late
    async with server.page.expect_event("requestfinished", lambda one: "/console/live" in one.url):
        server.update("x.3", part=rows("newest"))
    server.parts.put_nowait((200, f'<div id="part">{rows("newer")}</div>', "x.2"))
    await expect(server.page.locator("#newest")).to_be_visible()
    await expect(server.page.locator("#newer")).to_have_count(0)


SEE = """(isSeen) => {
    Object.defineProperty(document, "hidden", { value: !isSeen, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_tab_that_nobody_sees_has_no_stream(server: Server) -> None:
    await server.open(f'<div id="part">{rows("old")}</div>')
    async with server.page.expect_event("requestfailed", lambda one: "/console/live" in one.url):
        await server.page.evaluate(SEE, False)
    server.parts.put_nowait((200, f'<div id="part">{rows("new")}</div>', "x.2"))
    async with server.page.expect_request("**/console/live?*version=x.2"):
        await server.page.evaluate(SEE, True)
    await expect(server.page.locator("#new")).to_be_visible()


async def test_a_page_that_is_not_live_is_left_as_it_is(server: Server) -> None:
    await server.open("<p>Sign in</p>", version="")
    for is_seen in (False, True):
        await server.page.evaluate(SEE, is_seen)
    await server.page.evaluate("new Promise((done) => setTimeout(done))")
    assert not [one for one in server.asked if one.endswith("part") or one == "/console/live"]


async def test_enter_in_a_reason_does_what_was_asked(server: Server) -> None:
    await server.open(rendering.environment("en").from_string(ACTION).render())
    page = server.page
    await page.get_by_role("button", name="Drain").click()
    await page.fill("#ask-reason input", "new driver")
    await page.get_by_role("button", name="Back").click()
    await expect(page.locator("#ask")).to_be_hidden()
    assert server.calls == []
    await page.get_by_role("button", name="Drain").click()
    await page.fill("#ask-reason input", "new driver")
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_have_text("Drained")
    assert server.calls == [{"reason": "new driver"}]

"""A server that only answers the console's script: each page, stream and answer can be late, lost or refused."""

from __future__ import annotations

import asyncio
import json
from typing import TypeVar
from unittest.mock import MagicMock
from urllib.parse import urlsplit

from playwright.async_api import Page, Route

from api.console import assets, rendering
from workflows.domain.role import Role

T = TypeVar("T")
HOST = "http://console.test"
REFUSED = json.dumps({"code": 429, "message": "请求过于频繁", "data": None})


class Server:
    """The server that the browser reaches. A stream or page waits until there is an answer for it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.parts: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()
        """Status, body and version of pages without their frame."""
        self.streams: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self.asked: list[str] = []
        self.calls: list[object] = []
        self.answers: list[tuple[int, str, object]] = []
        """Status, message and data of the API's next answers; then it has done everything."""
        self.over = asyncio.Event()

    async def open(self, content: str, version: str = "x.1", language: str = "en") -> None:
        """Go to a page with this content."""
        template = rendering.environment(language).get_template("frame.html")
        self._html = template.render(
            content=content, page=None, pages=[], language=language, theme="", here="/console/p", cluster="c",
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
            code, message, data = self.answers.pop(0) if self.answers else (200, "success", {})
            await route.fulfill(status=code, json={"code": code, "message": message, "data": data})
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

"""A world to look at, a browser, and people who are signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page

from tests.browser import NEEDS_CHROMIUM, chromium
from tests.conftest import Api, fleet
from tests.console import world
from tests.console.script_server import Server
from tests.console.world import World

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing here runs without a browser."""
    for item in items:
        if "tests/console/" in item.path.as_posix():
            item.add_marker(NEEDS_CHROMIUM)


WIDEST = """() => Math.max(...[document.scrollingElement, ...document.querySelectorAll("dialog[open]")]
    .map((one) => one.scrollWidth))"""


@dataclass
class Person:
    """A person at the console, and what their browser has complained of."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on(
            "console", lambda one: self.complaints.append(one.text) if one.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._check)
        self.page.set_default_timeout(15_000)

    def _check(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"asked {request.url}")

    async def open(self, path: str) -> None:
        """Go to a page of the console, and be there."""
        answer = await self.page.goto(f"{self.url}/console{path}", wait_until="load")
        assert answer is not None
        assert answer.status == 200, (path, answer.status)

    async def faults(self, *, on_phone: bool = True) -> list[tuple[str, list[Any]]]:
        """Faults of the page by axe, and whether it is wider than a phone."""
        results = (await Axe().run(self.page, options=RULES)).response
        found = [(one["id"], [node["target"] for node in one["nodes"]]) for one in results["violations"]]
        if on_phone and (width := await self._width_on_a_phone()) > PHONE["width"]:
            found.append(("wide", [width]))
        return found

    async def _width_on_a_phone(self) -> int:
        """The width of what is shown in pixels, where the screen is as narrow as a phone's."""
        await self.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        width: int = await self.page.evaluate(WIDEST)
        await self.page.set_viewport_size(DESK)  # type: ignore[arg-type]
        return width


Visit = Callable[..., Awaitable[Person]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest.fixture(scope="session")
async def the_world(api: Api) -> AsyncIterator[World]:
    async with fleet(api) as make_node:
        yield await world.build(api, make_node)
        await world.forget(api)


@pytest.fixture
async def visit(api: Api, browser: Browser) -> AsyncIterator[Visit]:
    """People who sign in with a key: the administrator's, unless another one is given."""
    async with AsyncExitStack() as contexts:

        async def make(language: str = "en", theme: str = "light", *, key: str | None = None, **options: Any) -> Person:
            context = await browser.new_context(**{"viewport": DESK, **options})
            contexts.push_async_callback(context.close)
            await prefer(context, api.stack.api_url, language, theme)
            person = Person(await context.new_page(), api.stack.api_url)
            await sign_in(person, key or api.key)
            return person

        yield make


async def prefer(context: BrowserContext, url: str, language: str, theme: str) -> None:
    """Set preferences as the switches in the rail do."""
    chosen = {"console_language": language, "console_theme": theme}
    await context.add_cookies(
        [{"name": name, "value": value, "url": f"{url}/console"} for name, value in chosen.items()]
    )


async def sign_in(person: Person, key: str) -> None:
    """Sign in by the form, as people do."""
    await person.open("/sign-in")
    await person.page.fill("#key", key)
    await person.page.click("button.primary")
    await person.page.wait_for_url("**/console/*")


@pytest.fixture
async def server(browser: Browser) -> AsyncIterator[Server]:
    page = await browser.new_page()
    made = Server(page)
    yield made
    made.over.set()
    await page.unroute_all(behavior="wait")
    await page.close()

"""Links that a browser may follow, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock
from urllib.parse import quote

import pytest
from starlette.datastructures import QueryParams
from starlette.requests import Request

from api.console import assets, rendering, routes
from api.console.live import STILL_S, Screen, Screens
from api.console.page import EVERYBODY, Asked, Page
from api.console.pages import PAGES
from api.http import files
from api.http.errors import BadRequest, NotFound, TooManyRequests
from infra.db.access.callers import Caller
from infra.events.allowance import Allowance
from workflows.domain.errors import TaskNotFound
from workflows.domain.role import Role

NODE = next(page for page in PAGES if page.name == "node")
USER = Caller("key_1", Role.USER, "o", "lineage")
ADMIN = Caller("key_2", Role.ADMIN, "o", "lineage")


def request(query: str = "", caller: Caller = ADMIN, **more: Any) -> Request:
    state = {"caller": caller}
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/console/live",
            "headers": [(b"accept-language", b"en")],
            "query_string": query.encode(),
            "state": state,
            "scheme": "http",
            "app": MagicMock(**{"state.context.settings.public_url": None}),
        }
        | more
    )


def live_of(address: str) -> str:
    return "of=" + quote(address, safe="")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    """A page that is always the same."""
    env = rendering.environment("en")
    monkeypatch.setattr(env, "get_template", lambda _: env.from_string("{{ gpu_id }}"))
    found = Page("test", "/nodes/{gpu_id}", "T", AsyncMock(return_value={"gpu_id": "g"}), roles=EVERYBODY)
    pattern = next(pattern for one, pattern in routes._PATHS if one is NODE)
    monkeypatch.setattr(routes, "_PATHS", [(found, pattern)])
    return found


def context() -> MagicMock:
    return MagicMock(streams=Allowance(1000))


def test_an_address_is_read_as_it_is_written_in_a_link() -> None:
    found = routes._screen(context(), Screens(), request(live_of("/console/nodes/a%3Ab?span=15")), ADMIN)
    assert (found._page, found._asked.path, found._asked.query["span"]) == (NODE, {"gpu_id": "a:b"}, "15")


@pytest.mark.parametrize("address", ["/console/nodes/a?x=%00999%00", "/console/nodes/%1b", "/console/nodes/a?%7F=1"])
def test_no_address_has_control_characters(address: str) -> None:
    with pytest.raises((BadRequest, NotFound)):
        routes._screen(context(), Screens(), request(live_of(address)), ADMIN)


@pytest.mark.parametrize("address", ["//[", "http://[x/console/nodes/a", "/console/nodes/a?" + "a=1&" * 101])
def test_what_is_no_address_of_a_page_is_not_found(address: str) -> None:
    with pytest.raises(NotFound):
        routes._screen(context(), Screens(), request(live_of(address)), ADMIN)


def test_nobody_can_write_a_placeholder() -> None:
    found = rendering.Rendering()
    found.skeleton = "\x000\x00" + found._put("a", "\x00999\x00")
    assert found.html() == "\x000\x00\x00999\x00"


async def test_a_user_has_few_open_pages(page: Page) -> None:
    here, screens = context(), Screens()
    endpoint = routes._live(here, screens)
    for number in range(8):
        await endpoint(request(live_of(f"/console/nodes/{number}"), USER))
    with pytest.raises(TooManyRequests):
        await endpoint(request(live_of("/console/nodes/8"), USER))
    await endpoint(request(live_of("/console/nodes/8"), ADMIN))
    assert here.streams.taken == 9


async def test_what_cannot_be_shown_has_no_stream(page: Page) -> None:
    page.contents.side_effect = TaskNotFound  # type: ignore[attr-defined]
    here = context()
    with pytest.raises(TaskNotFound):
        await routes._live(here, Screens())(request(live_of("/console/nodes/g")))
    assert here.streams.taken == 0


async def test_a_look_ahead_at_a_stream_ends_at_once(page: Page) -> None:
    here, state = context(), {"caller": ADMIN, "is_head": True}
    answer = await routes._live(here, Screens())(request(live_of("/console/nodes/g"), state=state))
    assert (answer.body, here.streams.taken) == (b"", 0)


def asked() -> Asked:
    return Asked(MagicMock(), ADMIN, {}, QueryParams(), "en")


async def test_a_page_that_says_so_is_still(page: Page) -> None:
    screen = Screen(page, asked())
    await screen.shown(0)
    assert screen._every_s == page.every_s
    page.contents.return_value = {"gpu_id": "g", "is_still": True}  # type: ignore[attr-defined]
    await screen.shown(0)
    assert screen._every_s == STILL_S


def test_browsers_keep_only_the_contents_that_they_asked_for() -> None:
    url = assets.url_of("console.js")
    kept = {query: asyncio.run(_cached(query)) for query in (url.partition("?")[2], "v=0", "")}
    assert list(kept.values()) == [files.KEEPS, "no-cache", "no-cache"]


async def _cached(query: str) -> str:
    answer = await assets.asset(request(query, path_params={"name": "console.js"}))
    return answer.headers["cache-control"]

"""Sessions of the console over the wire: who comes in, what they may do, and what ends a session."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from api.console.pages import PAGES
from infra.db.access import api_keys
from infra.db.access.audit import Actor
from infra.db.session import Database
from tests.conftest import TLS, Api, eventually
from workers.stack import programs

TYPE = 890
OWN = {"Sec-Fetch-Site": "same-origin"}


@asynccontextmanager
async def browser(api: Api, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, signed in if a key is given."""
    headers = {"Accept-Language": "en"}
    async with httpx.AsyncClient(
        base_url=api.stack.api_url, headers=headers, trust_env=False, verify=TLS, timeout=20
    ) as http:
        if key is not None:
            answer = await http.post("/console/sign-in", data={"key": key}, headers=OWN)
            assert answer.status_code == 303, answer.text
        yield http


async def test_a_session_begins_with_a_key_and_does_what_the_key_may(api, make_caller):
    async with browser(api) as http:
        first = await http.get("/console")
        assert (first.status_code, first.headers["location"]) == (303, "/console/sign-in?back=%2Fconsole")
        assert (await http.get("/console/sign-in")).status_code == 200
        assert (await http.post("/console/sign-in", data={"key": "wrong"}, headers=OWN)).status_code == 403
        assert (await http.post("/console/sign-in", data={"key": api.key})).status_code == 403  # no page of ours asks
        assert not http.cookies
        answer = await http.post("/console/sign-in", data={"key": api.key, "back": "/console/alerts"}, headers=OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/alerts")
        cookie = answer.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict", "max-age=43200", "path=/"))
        page = await http.get("/console/alerts")
        assert page.status_code == 200
        assert "<h1>Alerts</h1>" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'self'")
        assert (await http.get("/api/v2/cluster/status")).status_code == 200
        assert (await http.post("/api/v2/monitoring/check")).status_code == 403  # of another origin, or of no page
        assert (await http.post("/api/v2/monitoring/check", headers=OWN)).status_code == 200
        assert (await http.post("/console/sign-out", headers=OWN)).headers["location"] == "/console/sign-in"
        assert (await http.get("/api/v2/cluster/status")).status_code == 401
    done = {(one["action"], one["owner"]) for one in await api.get("/audit?size=5")}
    assert ("monitor.check", "bootstrap") in done


async def test_a_link_signs_in_once(api):
    async with browser(api) as http:
        printed = await programs.console_url(api.stack.settings, api.stack.api_key.secret)
        path = printed.removeprefix(api.stack.api_url).removesuffix(" (signs in once)")
        assert path.startswith("/console/enter?link=")
        page = await http.get(path)  # a look ahead does not use it up
        assert "bootstrap" in page.text
        form = {"link": path.partition("link=")[2]}
        assert (await http.post("/console/enter", data=form, headers=OWN)).headers["location"] == "/console"
        assert (await http.get("/console/alerts")).status_code == 200
        assert (await http.post("/console/links", headers=OWN)).status_code == 403
    async with browser(api) as other:
        assert (await other.post("/console/enter", data=form, headers=OWN)).status_code == 403
        assert (await other.post("/console/links", headers=OWN)).status_code == 401
        assert (await other.get("/console/alerts")).status_code == 303


async def test_a_session_dies_with_its_key(api, make_caller):
    operator = await make_caller("operator", "console_operator")
    database = Database(api.stack.services.database_url, connections=1)
    async with browser(api, operator.key) as http:
        assert (await http.get("/console/alerts")).status_code == 200
        by = Actor(None, "tests", None)
        await database.run(lambda c: api_keys.revoke(c, operator.made.key_id, by))

        async def is_out() -> bool:
            return (await http.get("/console/alerts")).status_code == 303

        await eventually(is_out, within=2.5)
        assert (await http.get("/api/v2/cluster/status")).status_code == 401
    await database.close()


async def test_each_role_sees_its_own_pages(api, make_caller):
    user, node = await make_caller("user", "console_user"), await make_caller("node", "console_node")
    async with browser(api, user.key) as http:
        assert (await http.get("/console/alerts")).status_code == 403
        assert (await http.get("/api/v2/gpus")).status_code == 403
    async with browser(api) as http:
        refused = await http.post("/console/sign-in", data={"key": node.key}, headers=OWN)
        assert refused.status_code == 403
        assert not http.cookies


async def test_what_is_not_there_is_a_page(api):
    async with browser(api, api.key) as http:
        answer = await http.get("/console/none")
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert "There is nothing here" in answer.text
        style = re.findall(r'"(/console/static/console.css[^"]*)"', answer.text)[0]
        found = await http.get(style)
        assert (found.status_code, found.headers["content-type"]) == (200, "text/css; charset=utf-8")
        assert (await http.get("/console/static/none.css")).status_code == 404


async def updates(texts: AsyncIterator[str], until: str, within: float = 10.0) -> str:
    """The text of a page's stream, up to some words."""
    found = ""
    async with asyncio.timeout(within):
        async for text in texts:
            found += text
            if until in found:
                return found
    raise AssertionError(f"the stream ended without {until}: {found}")


async def test_a_node_that_fails_turns_on_the_screen_at_once(api, make_node):
    await make_node("console_turns", [TYPE])
    async with browser(api, api.key) as http:
        page = await http.get("/console/fleet?q=console_turns", headers={"X-Part": "1"})
        of = {"of": "/console/fleet?q=console_turns", "version": page.headers["X-Version"]}
        async with http.stream("GET", "/console/live", params=of) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            texts, took_s = stream.aiter_text(), []
            for call in ("fault?reason=smoke", "recover", "fault?reason=smoke", "recover"):
                began = time.monotonic()
                await api.post(f"/gpus/console_turns/{call}")
                await updates(texts, '"n-console_turns"')
                took_s.append(time.monotonic() - began)
            assert min(took_s) < 1.0  # a busy machine may be late, but not always
        assert (await http.get("/console/live", params={"of": "/console/none"})).status_code == 404
        assert (await http.head("/console/live", params=of)).status_code == 200
    await api.post("/gpus/console_turns/recover")


async def test_every_page_shows_what_happens(api, make_node):
    """Rows of a real database have hostile words; tests/unit shows that pages render them harmless."""
    node = await make_node("console_pages", [TYPE], metadata={"gpuModel": "<b>GPU</b>"})
    done = await api.create(TYPE, app="<img src=x onerror=alert(1)>")
    put = await node.next_put()
    await api.succeed(put, {"n": 1})
    await api.until(done, "COMPLETED")
    runs = await api.create(TYPE)
    put = await node.next_put()
    await api.say(put, "PROCESSING", progress=40)
    waits = await api.create(TYPE)
    async with browser(api, api.key) as http:
        fleet = (await http.get("/console/fleet?q=console_pages")).text
        assert f'href="/console/tasks/{runs}"' in fleet
        assert "&lt;b&gt;GPU&lt;/b&gt;" in fleet
        node_page = (await http.get("/console/nodes/console_pages")).text
        assert f'href="/console/tasks/{done}"' in node_page
        assert "&lt;img" in node_page
        assert "<img" not in node_page
        assert (await http.get("/console/nodes/console_pages?span=15&until=1700000000000")).status_code == 200
        assert (await http.get("/console/nodes/none")).status_code == 404
        assert (await http.get("/console/nodes/%00")).status_code == 404
        assert (await http.get("/console/fleet?q=%00")).status_code == 400
        assert f'id="type-{TYPE}"' in (await http.get("/console/now")).text
        assert "instance-" in (await http.get("/console/system")).text
        for page in PAGES:
            if "{" not in page.path:
                answer = await http.get(f"/console{page.path}", headers={"Accept-Language": "zh"})
                assert (answer.status_code, answer.headers["x-frame-options"]) == (200, "DENY"), page.path
                assert len(answer.content) < 400_000
    await api.succeed(put, {"n": 2})
    put = await node.next_put()
    await api.succeed(put, {"n": 3})
    await api.until(waits, "COMPLETED")


@pytest.mark.parametrize("version", ["", "x", "x.1", "1.x"])
async def test_a_stream_from_an_unknown_version_says_that_all_has_changed(api, version: str):
    async with (
        browser(api, api.key) as http,
        http.stream("GET", "/console/live", params={"of": "/console/alerts", "version": version}) as stream,
    ):
        assert '"parts"' not in await updates(stream.aiter_text(), '"version"')

"""Signing in: what it takes, what it costs without a key, and which cookie counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import httpx
import pytest
from fastapi import FastAPI

from api.console import routes, sign_in
from api.middleware.authentication import Authentication
from api.middleware.methods import HeadAsGet
from api.middleware.rate_limit import LocalBuckets
from infra.db.access.callers import Caller
from infra.settings import Settings
from workflows.domain.role import Role

ADMIN = Caller("key_a", Role.ADMIN, "<b>owner", "lineage")
OWN, ELSEWHERE = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}
SESSION = {"Cookie": "console_session=session"}


class Keys:
    """A keyring with one secret."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.forgotten: list[str] = []

    async def caller(self, secret: str) -> Caller | None:
        return ADMIN if secret == self.secret else None

    def forget(self, secret: str) -> None:
        self.forgotten.append(secret)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    monkeypatch.setattr(sign_in, "_begun", LocalBuckets())
    found = MagicMock(settings=Settings(), keys=Keys("key"), sessions=Keys("session"), links=Keys("link"))
    found.database.run = AsyncMock(return_value="new")
    return found


@pytest.fixture
async def http(context: MagicMock) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.state.context = context
    routes.install(app, context)
    app.add_middleware(Authentication, keys=context.keys, sessions=context.sessions)
    app.add_middleware(HeadAsGet)
    headers = {"Accept-Language": "en"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers) as client:
        yield client


async def test_what_comes_without_a_key_costs_no_call_of_the_database(http, context) -> None:
    assert (await http.post("/console/sign-in", data={"key": "x"}, headers=OWN)).status_code == 403
    assert (await http.get("/console/enter?link=x")).status_code == 403
    assert (await http.get("/console/enter?link=link")).status_code == 200
    assert (await http.head("/console/enter?link=link")).status_code == 200
    assert (await http.post("/console/enter", data={"link": "x"}, headers=OWN)).status_code == 403
    assert (await http.post("/console/sign-out", headers=OWN | {"Cookie": "console_session=x"})).status_code == 303
    context.database.run.assert_not_awaited()


async def test_a_key_begins_sessions_at_a_bounded_rate(http) -> None:
    answers = [(await http.post("/console/sign-in", data={"key": "key"}, headers=OWN)).status_code for _ in range(31)]
    assert answers == [303] * 30 + [429]


async def forms(first: bytes, *, ends: bool) -> AsyncIterator[bytes]:
    yield first
    if not ends:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("content", "ends"),
    [(b"key=" + b"x" * 16_384, True), (b"&".join(b"f%d=1" % n for n in range(11)), True), (b"key=key", False)],
)
async def test_a_form_is_small_and_comes_in_time(http, monkeypatch, content: bytes, ends: bool) -> None:
    monkeypatch.setattr(sign_in, "FORM_S", 0.05)
    answer = await http.post("/console/sign-in", content=forms(content, ends=ends), headers=OWN)
    assert answer.status_code == 400
    assert answer.headers.get("connection") == (None if ends else "close")


async def test_a_wrong_key_keeps_the_way_back(http) -> None:
    answer = await http.post("/console/sign-in", data={"key": "x", "back": "/console/tasks?page=2"}, headers=OWN)
    assert 'value="/console/tasks?page=2"' in answer.text


async def test_a_link_says_whose_session_it_begins_and_a_person_begins_it(http, context) -> None:
    page = await http.get("/console/enter?link=link")
    assert "&lt;b&gt;owner" in page.text
    assert 'name="link" value="link"' in page.text
    assert (await http.post("/console/enter", data={"link": "link"}, headers=ELSEWHERE)).status_code == 403
    entered = await http.post("/console/enter", data={"link": "link"}, headers=OWN)
    assert (entered.status_code, entered.headers["location"]) == (303, "/console")
    assert entered.headers["set-cookie"].startswith("console_session=new; HttpOnly; Max-Age=43200; Path=/; SameSite=")
    assert context.links.forgotten == ["link"]
    context.database.run.return_value = None  # somebody else has used it meanwhile
    assert (await http.post("/console/enter", data={"link": "link"}, headers=OWN)).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (SESSION | OWN, 403),
        (SESSION | OWN | {"Authorization": "Basic eA=="}, 403),
        ({"X-API-Key": "key"}, 200),
        ({"X-API-Key": "x"} | SESSION | OWN, 401),
    ],
)
async def test_only_a_key_makes_links(http, headers: dict[str, str], status: int) -> None:
    assert (await http.post("/console/links", headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("headers", "is_in"),
    [
        ({}, True),
        ({"Authorization": "Basic eA=="}, True),  # of a proxy
        ({"Authorization": "Bearer x"}, False),
        ({"Authorization": "bearer"}, False),
        ({"X-API-Key": ""}, False),
        ({"X-Forwarded-Proto": "https"}, False),  # another host of the domain could have set this cookie
        ({"X-Forwarded-Proto": "https, http", "Cookie": "__Host-console_session=session"}, True),
        ({"X-Forwarded-Proto": "http, https"}, True),
    ],
)
async def test_which_session_counts(http, headers: dict[str, str], is_in: bool) -> None:
    answer = await http.get("/console", headers=SESSION | headers)
    assert answer.headers["location"].startswith("/console/sign-in") is not is_in


async def test_behind_https_the_cookie_is_of_this_host_alone(http) -> None:
    headers = OWN | {"X-Forwarded-Proto": "https, http"}
    answer = await http.post("/console/sign-in", data={"key": "key"}, headers=headers)
    cookie: Any = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-console_session=new; ")
    assert cookie.endswith("; Path=/; SameSite=strict; Secure")


async def test_who_comes_from_elsewhere_comes_again_with_the_cookie(http) -> None:
    path = "/console/tasks?app=%22%3E"
    answer = await http.get(path, headers=ELSEWHERE)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert f'content="0;url={path}"' in answer.text
    again = await http.get(path, headers=OWN)
    assert (again.status_code, again.headers["location"][:23]) == (303, "/console/sign-in?back=%")


async def test_who_is_signed_out_reads_why(http) -> None:
    ended = (await http.get("/console/tasks", headers=OWN | {"Cookie": "console_session=of a revoked key"})).headers
    assert ended["location"] == "/console/sign-in?back=%2Fconsole%2Ftasks&ended=1"
    form = await http.get(ended["location"])
    assert (form.status_code, "The session has ended, or its key" in form.text) == (200, True)
    assert 'value="/console/tasks"' in form.text
    for path in ("/console/tasks", "/console/sign-in"):
        assert "has ended" not in (await http.get(path, headers=OWN, follow_redirects=True)).text


@pytest.mark.parametrize("path", ["sign-in", "enter", "preferences", "sign-out"])
@pytest.mark.parametrize("origin", ["http://[", "http://]", "http://elsewhere", "null"])
async def test_a_malformed_origin_is_a_foreign_one(http, path: str, origin: str) -> None:
    assert (await http.post(f"/console/{path}", headers={"Origin": origin})).status_code == 403

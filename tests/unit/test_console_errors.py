"""Errors of the console are pages, whoever refuses; what passes by itself is asked for again."""

from __future__ import annotations

import gzip

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from api.console.error_pages import ErrorPages
from api.http.errors import TooManyRequests, answer_to
from tests.unit import whole_api

ENGLISH = {"Accept-Language": "en"}


async def _ask(role: str | None, method: str, path: str) -> httpx.Response:
    async with whole_api.client(role) as http:
        return await http.request(method, f"http://test/console{path}", headers=ENGLISH)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/fleet?page=1&page=1", 400, "This address is not understood"),
        ("GET", "/fleet?q=%ff", 400, "This address is not understood"),
        ("POST", "/fleet", 404, "There is nothing here"),
        ("GET", "/none", 404, "There is nothing here"),
        ("GET", "/fleet", 503, "The database does not answer"),
    ],
)
async def test_a_refusal_is_a_page(method: str, path: str, status: int, words: str) -> None:
    answer = await _ask("operator", method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert f"<h1>{words}</h1>" in answer.text
    assert answer.headers.get("refresh") == ("5" if status == 503 else None)


async def test_the_api_answers_in_its_envelope() -> None:
    answer = await whole_api.ask("operator", "GET", "/gpus?page=1&page=1")
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


async def test_a_caller_with_too_many_calls_learns_when_to_come_again() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        await answer_to(TooManyRequests(7))({**scope, "app": None}, receive, send)

    _, app = whole_api._served()

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await ErrorPages(refuses)({**scope, "app": app}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=served), base_url="http://test") as http:
        answer = await http.get("/console/fleet", headers=ENGLISH)
        posted = await http.post("/console/sign-in", headers=ENGLISH)
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["refresh"]) == (429, "7", "7")
    assert "Too many calls at once" in answer.text
    assert (posted.status_code, posted.headers["retry-after"]) == (429, "7")
    assert "refresh" not in posted.headers


async def test_a_page_is_compressed_where_the_browser_takes_that() -> None:
    async with whole_api.client() as http, http.stream("GET", "http://test/console/sign-in") as packed:
        raw = b"".join([part async for part in packed.aiter_raw()])
        plain = await http.get("http://test/console/sign-in", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(raw)
    assert gzip.decompress(raw) == plain.content

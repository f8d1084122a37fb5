"""Cookies are read in one place, without unquoting."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from api.middleware.cookies import Cookies, cookie
from tests.unit.whole_api import ask

API = Path(__file__).parents[2] / "api"
LONG = 'a="' + "\\1" * 200_000 + '"'
"""Python's unquoting would take minutes."""


def scope(*headers: str) -> dict[str, Any]:
    return {"type": "http", "headers": [(b"cookie", one.encode("latin-1")) for one in headers]}


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], ""),
        ([""], ""),
        (["name"], ""),
        (["name=value"], "value"),
        (["a=b; name = value ;c"], "value"),
        (["name=a=b"], "a=b"),
        (['name="a\\073b"'], '"a\\073b"'),
        (["a=b", "name=value"], "value"),
        (["xname=value"], ""),
    ],
)
def test_a_value_is_read_as_it_is_written(headers: list[str], value: str) -> None:
    assert cookie(scope(*headers), "name") == value


async def test_the_header_goes_no_further() -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope)

    middleware: Any = Cookies(app)
    await middleware({"type": "http", "headers": [(b"cookie", b"a=b"), (b"host", b"x")]}, None, None)
    assert (heard[0]["headers"], cookie(heard[0], "a")) == ([(b"host", b"x")], "b")


@pytest.mark.parametrize(("role", "path"), [(None, "/healthz"), (None, "/console/sign-in"), ("user", "/api/v2/tasks")])
async def test_a_long_header_costs_no_route_anything(role: str | None, path: str) -> None:
    began = time.thread_time()
    await ask(role, "GET", f"http://test{path}", headers={"Cookie": LONG})
    assert time.thread_time() - began < 2


def test_nothing_else_reads_cookies() -> None:
    reads = re.compile(r"\.cookies\b(?! import)|cookie_parser|http\.cookies|SimpleCookie|Cookie\(")
    assert [path.name for path in API.rglob("*.py") if reads.search(path.read_text())] == []

"""An unknown caller is answered 401 before anything else; what does not exist is not found (INVARIANTS)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import TLS, Api
from tests.contract import PREFIX
from tests.unit.test_bad_fields import DOCUMENT, UNKNOWN

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE")  # HEAD and OPTIONS are of every path
NO_JSON = {"content": b"{", "headers": {"Content-Type": "text/plain"}}  # any route that reads it answers 400


def operations() -> Iterator[tuple[str, str]]:
    for path, item in DOCUMENT["paths"].items():
        if path.startswith(PREFIX):
            for method in item:
                yield method.upper(), path.format(**UNKNOWN, component="gpu", key="queue_lengths")


OPERATIONS = sorted(operations())
ELSEWHERE = [
    ("GET", f"{PREFIX}/nothing"),
    ("PUT", f"{PREFIX}/tasks"),
    ("GET", f"{PREFIX}/tasks/a/b/c"),
    ("GET", PREFIX),
]
KEYS: dict[str, list[tuple[str, str | bytes]]] = {
    "none": [],
    "an unknown one": [("Authorization", "Bearer unknown")],
    "an unknown one of the other kind": [("X-API-Key", "unknown")],
    "an empty one": [("Authorization", "Bearer"), ("X-API-Key", "")],
    "another scheme": [("Authorization", "Basic {key}")],
    "two that differ": [("Authorization", "Bearer {key}"), ("X-API-Key", "other")],
    "two that differ, the other way round": [("Authorization", "Bearer other"), ("X-API-Key", "{key}")],
    "two that differ in one header": [("X-API-Key", "{key}"), ("X-API-Key", "other")],
    "one in the query alone": [],
    "not ASCII": [("X-API-Key", b"\xff\xfe")],
}


async def ask(api: Api, method: str, path: str, **options: Any) -> httpx.Response:
    """Ask without the key that `api` always shows."""
    async with httpx.AsyncClient(base_url=api.stack.api_url, trust_env=False, verify=TLS) as http:
        return await http.request(method, path, **options)


def test_all_operations_are_here() -> None:
    assert len(OPERATIONS) == 52


@pytest.mark.parametrize(("method", "path"), [*OPERATIONS, *ELSEWHERE])
async def test_401_goes_before_everything_but_size(api: Api, method: str, path: str) -> None:
    for what, shown in KEYS.items():
        headers = [(name, value.format(key=api.key) if isinstance(value, str) else value) for name, value in shown]
        query = f"?api_key={api.key}&page=0" if what == "one in the query alone" else "?page=0"
        content = NO_JSON["content"] if method in ("POST", "PATCH") else None
        response = await ask(api, method, path + query, headers=headers, content=content)
        assert (response.status_code, response.json()) == (
            401, {"code": 401, "message": "认证失败", "data": None}), what  # fmt: skip
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_blanks_and_another_scheme_beside_a_key_do_not_count(api: Api) -> None:
    beside = [("Authorization", "Basic dXNlcjpwYXNz"), ("X-API-Key", f" {api.key}\t")]
    for shown in (beside, beside[::-1], [("Authorization", f"Bearer  {api.key} ")]):
        assert await asyncio.to_thread(raw_status, api.stack.api_url, shown) == 200


def raw_status(url: str, headers: list[tuple[str, str]]) -> int:
    """The status of a call with headers that httpx does not send as they are."""
    connection = HTTPConnection(urlsplit(url).netloc)
    connection.putrequest("GET", f"{PREFIX}/gpus")
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    with closing(connection), connection.getresponse() as response:
        return response.status


@pytest.mark.parametrize("shown", [["Authorization"], ["X-API-Key"], ["Authorization", "X-API-Key"]])
async def test_either_header_will_do_or_both_with_the_same_key(api: Api, shown: list[str]) -> None:
    values = {"Authorization": f"Bearer {api.key}", "X-API-Key": api.key}
    response = await ask(api, "GET", f"{PREFIX}/gpus", headers={name: values[name] for name in shown})
    assert response.status_code == 200


OF_A_NAME = {
    "/gpus/register": ("GET", "DELETE"),
    **dict.fromkeys(("/tasks/batch", "/tasks/cancel", "/tasks/retry"), ("GET", "PATCH")),
    "/webhooks/secret": ("DELETE",),
}
"""Methods that mean a node, a task or a webhook of that name."""


def wrong_methods() -> Iterator[tuple[str, str]]:
    for path in sorted({path for _, path in OPERATIONS}):
        for method in METHODS:
            if (method, path) not in OPERATIONS:
                yield method, path


@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for method, path in wrong_methods() if method not in OF_A_NAME.get(path.removeprefix(PREFIX), ())],
)
async def test_a_wrong_method_is_not_found(api: Api, method: str, path: str) -> None:
    response = await api.http.request(method, api.stack.api_url + path)
    assert response.status_code == 404
    assert response.json() == {"code": 404, "message": "资源不存在", "data": None}
    assert "allow" not in response.headers


@pytest.mark.parametrize(
    "path", ["/tasks/", "//tasks", "/Tasks", "/tasks/x/y", "/gpus/a/b", "/monitoring", "/cluster/x/"]
)
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    response = await api.http.get(api.stack.api_url + PREFIX + path)
    assert (response.status_code, response.json()["code"]) == (404, 404)

"""Which key a request shows, whether one of our pages makes it, and whether the key holds when the body has come."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from api.http.errors import Unauthorized
from api.middleware.authentication import Authentication, from_own_page, presented
from infra.db.access.callers import Caller
from workflows.domain.role import Role

CALLER = Caller("key_1", Role.USER, "u", "key_1")


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in pairs])


KEY, AUTH = "X-API-Key", "Authorization"


@pytest.mark.parametrize(
    "pairs",
    [
        [(KEY, "k")],
        [(KEY, " k")],
        [(KEY, "k \t ")],
        [(AUTH, "Bearer k")],
        [(AUTH, "bearer  k  ")],
        [(AUTH, " BEARER\tk\t")],
        [(KEY, "k"), (AUTH, "Bearer k ")],
        [(KEY, "k "), (KEY, " k")],
        [(KEY, "k"), (KEY, "")],
        [(KEY, "k"), (AUTH, "Basic dXNlcjpwYXNz")],
        [(AUTH, "Basic Bearer"), (KEY, "k")],
        [(AUTH, "Digest a=b"), (AUTH, "Basic x"), (KEY, "k\t")],
        [(KEY, "k"), (AUTH, "")],
        [(KEY, "k"), (AUTH, "Bearer")],
        [(KEY, "k"), (AUTH, "Bearer ")],
        [(KEY, "k"), (AUTH, "token")],
        [(KEY, "k"), (AUTH, "Basic x"), (AUTH, "Bearer k")],
    ],
)
def test_one_key_is_shown(pairs: list[tuple[str, str]]) -> None:
    assert presented(headers(*pairs)) == "k"


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(KEY, "")],
        [(KEY, " \t")],
        [(AUTH, "")],
        [(AUTH, "Bearer")],
        [(AUTH, "Bearer \t")],
        [(AUTH, "Basic k")],
        [(AUTH, "k")],
        [(AUTH, "BearerX k")],
        [(KEY, " "), (AUTH, "Basic k")],
        [(KEY, "k"), (KEY, "l")],
        [(KEY, "k"), (AUTH, "Bearer l")],
        [(KEY, "k"), (AUTH, "Basic x"), (AUTH, "Bearer l")],
        [(AUTH, "Bearer k"), (AUTH, "Bearer l")],
        [(AUTH, "Bearer k"), (AUTH, "Basic x")],
        [(AUTH, "Basic x"), (AUTH, "Bearer k")],
    ],
)
def test_none_or_two_are(pairs: list[tuple[str, str]]) -> None:
    assert presented(headers(*pairs)) is None


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        ("http://here", "here", True),
        ("https://Here:8443", "here:8443", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://here", "there", False),
        ("http://here:1", "here", False),
        ("http://[", "here", False),
        ("http://]", "here", False),
        ("http://[", "[", True),
        ("http://", "", False),
        ("null", "", False),
        ("null", "null", False),
        ("http://\u2100", "here", False),
    ],
)
def test_an_origin_is_ours_if_it_is_the_host_s(origin: str, host: str, is_own: bool) -> None:
    raw = [(b"origin", origin.encode()), (b"host", host.encode())]
    assert from_own_page(Headers(raw=raw)) is is_own


class Once:
    """A keyring that knows a key for some calls, and not after them."""

    def __init__(self, times: int) -> None:
        self._times = times

    async def caller(self, _: str) -> Caller | None:
        self._times -= 1
        return CALLER if self._times >= 0 else None


async def received(method: str, times: int, *messages: Message) -> list[Message]:
    """The messages that reach the application, where the key is known `times` times."""
    found: list[Message] = []
    left = [*messages]

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        found.extend([await receive() for _ in messages])

    async def receive() -> Message:
        return left.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError

    scope = {"type": "http", "method": method, "path": "/api/v2/x", "scheme": "http", "headers": [(b"x-api-key", b"k")]}
    keys: Any = Once(times)
    await Authentication(app, keys, keys)(scope, receive, send)
    return found


BODY: list[Message] = [
    {"type": "http.request", "body": b"{", "more_body": True},
    {"type": "http.request", "body": b"}", "more_body": False},
    {"type": "http.disconnect"},
]


async def test_a_body_that_ends_after_its_key_is_refused() -> None:
    assert await received("POST", 1, *BODY[:1]) == BODY[:1]
    with pytest.raises(Unauthorized):
        await received("POST", 1, *BODY)


@pytest.mark.parametrize(("method", "times"), [("POST", 2), ("PATCH", 2), ("GET", 1)])
async def test_a_key_is_asked_for_again_at_the_end_of_a_body(method: str, times: int) -> None:
    assert await received(method, times, *BODY) == BODY

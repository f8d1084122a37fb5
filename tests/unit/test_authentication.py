"""Which key a request shows, and whether one of our pages makes it."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from api.middleware.authentication import from_own_page, presented


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

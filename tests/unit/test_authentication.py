"""Which key a request shows."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from api.middleware.authentication import presented


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

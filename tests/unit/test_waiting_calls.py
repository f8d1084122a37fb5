"""Waits that a `Prefer` header asks for (RFC 7240)."""

from __future__ import annotations

import pytest

from api.routes.waiting import wait_s


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (["wait=30"], 30),
        (["wait=0"], 0),
        (["respond-async, Wait = 5"], 5),
        (["return=minimal", 'wait="7"; x=y'], 7),
        (["wait=61"], 60),
        (["wait=999999"], 60),
        (["wait=86400000"], 60),
        (["wait"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=１"], None),
        (["await=1"], None),
        ([""], None),
        (None, None),
    ],
)
def test_what_is_malformed_is_ignored(prefer, seconds):
    assert wait_s(prefer) == seconds

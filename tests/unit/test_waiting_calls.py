"""Waits that a `Prefer` header asks for (RFC 7240)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from api.routes import create_task
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


@pytest.mark.parametrize("error", [ConnectionError("away"), None])
async def test_a_created_task_is_answered_though_it_cannot_be_read_any_more(error):
    """The database went away while the call waited, or the task is forgotten: the answer is that of the creation."""

    async def single(_):
        if error is not None:
            raise error

    context: Any = SimpleNamespace(database=SimpleNamespace(single=single))
    assert await create_task._as_it_is(context, "t") is None


async def test_a_bug_in_that_read_is_not_hidden():
    async def single(_):
        raise ValueError("bug")

    context: Any = SimpleNamespace(database=SimpleNamespace(single=single))
    with pytest.raises(ValueError, match="bug"):
        await create_task._as_it_is(context, "t")

"""Batches are kept until they are written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.db.write_behind import WriteBehind


class Books:
    """A database that fails or hangs on demand."""

    def __init__(self) -> None:
        self.written: list[dict[str, float]] = []
        self.fails = False
        self.hangs = False

    async def run(self, work: Callable[[Any], Awaitable[None]]) -> None:
        if self.fails:
            raise ConnectionError
        if self.hangs:
            await asyncio.Event().wait()
        await work(None)

    async def record(self, _: Any, ages_s: dict[str, float]) -> None:
        self.written.append(ages_s)


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def batch(books: Books) -> WriteBehind:
    return WriteBehind(cast(Any, books), books.record)


async def test_what_is_written_is_no_longer_kept(batch: WriteBehind, books: Books) -> None:
    await batch.write()
    batch.note("now")
    await batch.write()
    await batch.write()
    (ages_s,) = books.written
    assert ages_s == pytest.approx({"now": 0}, abs=10)
    assert batch.ago_s("now") is None


async def test_what_can_not_be_written_is_kept_behind_what_is_newer(
    batch: WriteBehind, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.fails = True
    with monkeypatch.context() as before:
        before.setattr("infra.db.write_behind.time", SimpleNamespace(monotonic=lambda: time.monotonic() - 50))
        batch.note("old")
        batch.note("moved")
    with pytest.raises(ConnectionError):
        await batch.write()
    books.fails = False
    batch.note("moved")
    await batch.write()
    assert books.written == [pytest.approx({"old": 50, "moved": 0}, abs=10)]


async def test_what_was_being_written_when_the_program_ended_is_kept(batch: WriteBehind, books: Books) -> None:
    books.hangs = True
    batch.note("one")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(batch.write(), 0.05)
    books.hangs = False
    await batch.write()
    assert [list(ages_s) for ages_s in books.written] == [["one"]]

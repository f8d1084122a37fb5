"""The reads of a forecast: concurrent callers share them, and `forget` forgets those under way too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infra.db.session import USUAL, Database
from infra.db.slots.forecast import Forecast

CALLERS = 50


class Paused(Database):
    """A database whose reads wait, and answer with their number."""

    def __init__(self) -> None:
        self.policy = USUAL
        self.reads: list[asyncio.Event] = []

    async def run(self, work: Callable[[Any], Any], **_: Any) -> Any:
        go = asyncio.Event()
        self.reads.append(go)
        number = len(self.reads)
        await go.wait()
        return number

    async def single(self, work: Callable[[Any], Any]) -> Any:
        return {1: await self.run(work)}


async def _begun() -> None:
    """Let each caller begin its call, and the call its read."""
    for _ in range(3):
        await asyncio.sleep(0)


ASKED: dict[str, Callable[[Forecast], Awaitable[object]]] = {
    "capacity": lambda forecast: forecast.of(1, vip=False),
    "usual duration": lambda forecast: forecast.usual_s(1),
    "milestones": lambda forecast: forecast._milestones_of([1]),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_callers_that_miss_at_the_same_time_share_a_read(asked: str) -> None:
    database = Paused()
    forecast = Forecast(database)
    callers = [asyncio.ensure_future(ASKED[asked](forecast)) for _ in range(CALLERS)]
    await _begun()
    assert len(database.reads) == 1
    database.reads[0].set()
    answers = await asyncio.gather(*callers)
    assert answers == [answers[0]] * CALLERS


async def test_a_read_from_before_a_change_is_not_what_callers_see_after_it() -> None:
    database = Paused()
    forecast = Forecast(database)
    before = asyncio.create_task(forecast.of(1, vip=False))
    await _begun()
    forecast.forget()
    after = asyncio.create_task(forecast.of(1, vip=False))
    await _begun()
    numbers: list[object] = []
    for read, caller in [(1, after), (0, before)]:
        database.reads[read].set()
        numbers.append(await caller)
    assert [*numbers, await forecast.of(1, vip=False)] == [2, 1, 2]

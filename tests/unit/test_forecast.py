"""The reads of a forecast: concurrent callers share them, and `forget` forgets those under way too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from infra.db.session import USUAL, Database
from infra.db.slots.eligibility import Wanted
from infra.db.slots.forecast import Forecast
from workflows.domain.queue_policy import QueuePolicy

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
    "capacity": lambda forecast: forecast.of(Wanted(1, vip=False)),
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


@pytest.mark.parametrize(("strict", "reads"), [(True, 4), (False, 3)])
async def test_tasks_share_a_read_if_the_same_nodes_take_them(strict: bool, reads: int) -> None:
    database = Paused()
    database.policy = QueuePolicy(vip_nodes_strict=strict)
    forecast = Forecast(database)
    one = Wanted(1, vip=False)
    others = [replace(one, task_type=2), replace(one, vip=True), replace(one, barred_on=frozenset({"n"}))]
    callers = [asyncio.ensure_future(forecast.of(wanted)) for wanted in [one, *others] * 2]
    await _begun()
    assert len(database.reads) == reads
    for read in database.reads:
        read.set()
    await asyncio.gather(*callers)


async def test_a_read_from_before_a_change_is_not_what_callers_see_after_it() -> None:
    database = Paused()
    forecast = Forecast(database)
    before = asyncio.create_task(forecast.of(Wanted(1, vip=False)))
    await _begun()
    forecast.forget()
    after = asyncio.create_task(forecast.of(Wanted(1, vip=False)))
    await _begun()
    numbers: list[object] = []
    for read, caller in [(1, after), (0, before)]:
        database.reads[read].set()
        numbers.append(await caller)
    assert [*numbers, await forecast.of(Wanted(1, vip=False))] == [2, 1, 2]

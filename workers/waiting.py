"""Waiting: for several things at once, for a condition with a deadline, before another try."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

STEP = 0.05  # s between two looks


async def first_of(*futures: asyncio.Future[Any]) -> None:
    """Return when one of them is done; being cancelled here cancels none of them."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def settle(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    """Wait until all of them are done, or the time is up."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


async def unless(stop: asyncio.Event, work: Coroutine[None, None, None] | asyncio.Future[None]) -> bool:
    """Whether the work ended before the stop came, which cancels it. Raises what the work raises."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await first_of(task, stopped)
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return True


def pauses(first: float, longest: float) -> Iterator[float]:
    """Seconds before each further try: doubled up to the longest, and varied so that no two callers come together."""
    while True:
        yield first * jitter()
        first = min(longest, 2 * first)


def jitter() -> float:
    """A factor about 1."""
    return random.uniform(0.8, 1.2)  # nosec B311


async def until(condition: Callable[[], bool], within: float, step: float = STEP) -> bool:
    """Wait until a condition holds. Returns False if it does not `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(step)
    return True

"""Concurrent callers share one call, and none of them decides about it for the others."""

from __future__ import annotations

import asyncio
import gc

import pytest

from infra.resilience.single_flight import SingleFlight


class Slow:
    """A call that ends when it may, and says how often it was made."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return number


async def _begun(count: int, flights: SingleFlight[str, int], slow: Slow) -> list[asyncio.Task[int]]:
    callers = [asyncio.create_task(flights.run("a", slow)) for _ in range(count)]
    await asyncio.sleep(0)
    return callers


async def test_callers_share_a_call_and_the_next_one_makes_another() -> None:
    flights, slow = SingleFlight[str, int](), Slow()
    callers = await _begun(100, flights, slow)
    slow.go.set()
    assert await asyncio.gather(*callers, flights.run("other", slow)) == [1] * 100 + [2]
    assert await flights.run("a", slow) == 3


async def test_a_caller_that_is_cancelled_leaves_the_call_to_the_others() -> None:
    flights, slow = SingleFlight[str, int](), Slow()
    first, *others = await _begun(3, flights, slow)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    slow.go.set()
    assert await asyncio.gather(*others) == [1, 1]


async def test_a_failure_is_raised_to_all_and_not_kept() -> None:
    flights, slow = SingleFlight[str, int](), Slow()
    callers = await _begun(3, flights, slow)
    slow.error = OSError("away")
    slow.go.set()
    assert await asyncio.gather(*callers, return_exceptions=True) == [slow.error] * 3
    slow.error = None
    assert await flights.run("a", slow) == 2


async def test_a_failure_that_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    flights, slow = SingleFlight[str, int](), Slow()
    (caller,) = await _begun(1, flights, slow)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)  # it is gone before the call fails
    slow.error = OSError("away")
    slow.go.set()
    await asyncio.sleep(0)
    slow.error = None
    assert await flights.run("b", slow) == 2
    del caller  # its frame holds the failed call, which asyncio logs once nothing does
    gc.collect()
    assert not caplog.records

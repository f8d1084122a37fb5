"""Spreading what can wait over time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from secrets import SystemRandom

_CHANCE = SystemRandom()


class Pace:
    """Limits starts to `per_s` per kind; below the limit there is no delay.

    Starts that would be delayed by more than `paced_s`, or are late anyway, are spread at random over the second half
    of `longest_s`.
    """

    def __init__(self, per_s: float, paced_s: float, longest_s: float) -> None:
        self._gap_s = 1 / per_s
        self._paced_s = paced_s
        self._longest_s = longest_s
        self._next: dict[int, float] = {}

    def delay_s(self, kind: int, *, late: bool = False) -> float:
        """Seconds from now until the next one of its kind may start; `late` if it would be late anyway."""
        now = time.monotonic()
        self._next = {kind: turn for kind, turn in self._next.items() if turn > now}
        turn = self._next.get(kind, now)
        if late or turn - now > self._paced_s:
            return _CHANCE.uniform(self._longest_s / 2, self._longest_s)
        self._next[kind] = turn + self._gap_s
        return turn - now


class Lane:
    """A lane for work that is not urgent: one after the other, so that it leaves room for urgent work.

    A caller that has waited `patience_s` proceeds without the lock.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._busy = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A context whose work is done in turn."""
        has_it = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                has_it = await self._busy.acquire()
        try:
            yield
        finally:
            if has_it:
                self._busy.release()

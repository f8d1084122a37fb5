"""Spreading what can wait over time."""

from __future__ import annotations

import time
from secrets import SystemRandom

_CHANCE = SystemRandom()


class Pace:
    """So many a second, one after the other, none later than after `longest_s`: what comes alone comes at once."""

    def __init__(self, per_s: float, longest_s: float) -> None:
        self._gap_s = 1 / per_s
        self._longest_s = longest_s
        self._next = 0.0

    def delay_s(self) -> float:
        """When the next one's turn is, in seconds from now. Beyond the longest time chance spreads them."""
        now = time.monotonic()
        turn = max(now, self._next)
        if turn - now > self._longest_s:
            return _CHANCE.uniform(self._longest_s / 2, self._longest_s)
        self._next = turn + self._gap_s
        return turn - now

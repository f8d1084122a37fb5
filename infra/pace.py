"""Spreading what can wait over time."""

from __future__ import annotations

import time
from secrets import SystemRandom

_CHANCE = SystemRandom()


class Pace:
    """Of each kind so many a second, one after the other: what comes alone comes at once.

    None comes later than after `longest_s`: those that would are spread by chance over its second half.
    """

    def __init__(self, per_s: float, longest_s: float) -> None:
        self._gap_s = 1 / per_s
        self._longest_s = longest_s
        self._next: dict[int, float] = {}

    def delay_s(self, kind: int) -> float:
        """When the turn of the next one of its kind is, in seconds from now."""
        now = time.monotonic()
        self._next = {kind: turn for kind, turn in self._next.items() if turn > now}
        turn = self._next.get(kind, now)
        if turn - now > self._longest_s:
            return _CHANCE.uniform(self._longest_s / 2, self._longest_s)
        self._next[kind] = turn + self._gap_s
        return turn - now

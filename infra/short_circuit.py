"""A short circuit: what has just not answered is not waited for by every caller that comes."""

from __future__ import annotations

import time


class ShortCircuit:
    """Opens after so many failures in a row; then one caller per `pause_s` tries, and the first success closes it."""

    def __init__(self, *, pause_s: float, after: int) -> None:
        self._pause_s = pause_s
        self._after = after
        self._failures = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it has not answered lately."""
        return self._failures >= self._after

    def admits(self) -> bool:
        """Whether the caller may try now; where it may not, waiting would most likely be in vain."""
        if not self.is_open:
            return True
        now = time.monotonic()
        if now < self._next_try:
            return False
        self._next_try = now + self._pause_s
        return True

    def failed(self) -> None:
        """There was no answer."""
        self._failures += 1
        self._next_try = time.monotonic() + self._pause_s

    def answered(self) -> None:
        """It is there."""
        self._failures = 0

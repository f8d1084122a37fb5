"""A circuit breaker: while a dependency is away, callers fail at once instead of waiting for it."""

from __future__ import annotations

import time


class CircuitBreaker:
    """Opens after several failures in a row. Then one caller per `pause_s` tries, and the first success closes it."""

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
        """Whether the caller may try now."""
        if not self.is_open:
            return True
        now = time.monotonic()
        if now < self._next_try:
            return False
        self._next_try = now + self._pause_s
        return True

    def failed(self) -> None:
        """Note a failure."""
        self._failures += 1
        self._next_try = time.monotonic() + self._pause_s

    def open(self) -> None:
        """Note that it is known to be away."""
        self._failures = self._after
        self._next_try = time.monotonic() + self._pause_s

    def answered(self) -> None:
        """Note a success."""
        self._failures = 0

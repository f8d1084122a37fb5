"""Times as people read them."""

from __future__ import annotations

import time


def now_ms() -> float:
    """This machine's clock."""
    return time.time() * 1000


def span(seconds: float) -> str:
    """A duration in its two largest units: `4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            rest = left % size // smaller_size
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError


def about(seconds: float) -> str:
    """A duration in its largest unit: `20 s`, `3 min`, `2 h`, `3 d`."""
    return " ".join(span(seconds).split(" ")[:2])


def age(moment_ms: float | None, now: float | None = None) -> str:
    """How long ago a moment was; `-` if it never was."""
    return "-" if not moment_ms else about(((now_ms() if now is None else now) - moment_ms) / 1000)

"""Charts as numbers for SVG: across in percent of the width, so that a chart fits every screen; up in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HEIGHT, BOTTOM = 140, 20
MINUTES = 60
"""The minutes of an hour."""


def last_hour() -> list[datetime]:
    """When each minute of the last hour began, the oldest first."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return [now - timedelta(minutes=back) for back in range(MINUTES - 1, -1, -1)]


@dataclass(frozen=True)
class Bar:
    """One minute: two stacked bars."""

    x: float
    width: float
    done_y: float
    done_height: float
    failed_y: float
    failed_height: float
    done: int
    failed: int


@dataclass(frozen=True)
class Bars:
    """Two stacked series over time, from zero."""

    bars: list[Bar]
    ticks: list[tuple[float, int]]
    """Height and value of the lines of the axis."""
    done: int
    failed: int
    height: int = HEIGHT

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int]]) -> Bars:
        """The bars of (done, failed) in each step of time."""
        top = ceiling(max((done + failed for done, failed in pairs), default=0))
        step = 100 / max(len(pairs), 1)
        floor = HEIGHT - BOTTOM

        def height(value: int) -> float:
            return round((floor - 4) * value / top, 2)

        bars = [
            Bar(
                x=round(index * step + step * 0.12, 2),
                width=round(step * 0.76, 2),
                done_y=round(floor - height(done), 2),
                done_height=height(done),
                failed_y=round(floor - height(done) - height(failed), 2),
                failed_height=height(failed),
                done=done,
                failed=failed,
            )
            for index, (done, failed) in enumerate(pairs)
        ]
        ticks = [(round(floor - height(value), 2), value) for value in sorted({0, top // 2, top})]
        return cls(bars, ticks, sum(done for done, _ in pairs), sum(failed for _, failed in pairs))


def ceiling(value: int) -> int:
    """The next round number: the top of an axis. At most a third of it is above the value."""
    size = 1
    while True:
        for tenths in (10, 12, 16, 20, 30, 40, 60, 80):
            top, rest = divmod(tenths * size, 10)
            if not rest and value <= top:
                return top
        size *= 10

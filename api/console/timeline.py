"""The slots of a node over time as bars: positions in percent of the width, so that a picture fits every screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from infra.db.attempts.of_node import NodeAttempt

LANE, GAP, TOP = 26, 6, 4
NARROW = 0.12
"""Percent of the width below which bars of one colour that touch are drawn as one."""
ROOM = 2.2
"""Percent of the width from which a bar has room for its symbol."""
TICKS = 6
MOST = 64
"""Slots that are drawn of a node, here and in the fleet."""
CROSSED_OUT = frozenset({"LOST", "TASK_ENDED", "FAULTY", "DEREGISTERED", "UNREACHABLE", "DRAINED"})
"""Outcomes that are hatched: the work was given up, whatever the cause."""


@dataclass(frozen=True)
class Bar:
    """An attempt, or several short ones of the same outcome: `count`."""

    x: float
    width: float
    y: int
    outcome: str
    is_hatched: bool
    has_room: bool
    task_id: str
    task_type: int
    attempt: int
    took_s: float | None
    """None while it runs."""
    count: int = 1


@dataclass(frozen=True)
class Lanes:
    """A picture of `height` pixels: a lane for each slot, its bars, and the times below."""

    lanes: list[tuple[int, int]]
    """Number and top of each."""
    bars: list[Bar]
    ticks: list[tuple[float, datetime]]
    height: int
    left_out: int
    """Slots that are not drawn."""
    lane: int = LANE


def of(attempts: Sequence[NodeAttempt], slots: int, since: datetime, until: datetime) -> Lanes:
    """The attempts between two times."""
    count = max([slots, *(one.slot for one in attempts)])
    lanes = [(number, TOP + (number - 1) * (LANE + GAP)) for number in range(1, min(count, MOST) + 1)]
    bars: list[Bar] = []
    last: dict[int, int] = {}
    for one in sorted((one for one in attempts if one.slot <= MOST), key=lambda each: each.claimed_at):
        bar = _bar(one, lanes[one.slot - 1][1], since, until)
        before = bars[last[one.slot]] if one.slot in last else None
        if before is not None and _are_one(before, bar):
            bars[last[one.slot]] = _joined(before, bar)
        else:
            last[one.slot] = len(bars)
            bars.append(bar)
    step = (until - since) / TICKS
    ticks = [(round(100 * n / TICKS, 2), since + n * step) for n in range(TICKS + 1)]
    return Lanes(lanes, bars, ticks, lanes[-1][1] + LANE + 22, max(count - MOST, 0))


def _bar(one: NodeAttempt, y: int, since: datetime, until: datetime) -> Bar:
    begin, end = max(one.claimed_at, since), min(one.closed_at or until, until)
    x = 100 * ((begin - since) / (until - since))
    width = max(100 * (max(end - begin, timedelta()) / (until - since)), NARROW)
    return Bar(
        round(x, 3),
        round(width, 3),
        y,
        outcome_of(one),
        one.outcome in CROSSED_OUT,
        width >= ROOM,
        one.task_id,
        one.task_type,
        one.attempt,
        None if one.closed_at is None else (one.closed_at - one.claimed_at).total_seconds(),
    )


def outcome_of(one: NodeAttempt) -> str:
    """The name of an attempt's mark."""
    if one.outcome == "TASK_ENDED" and one.end_reason == "CANCELLED":
        return "CANCELLED"
    return one.outcome or "RUNNING"


def _are_one(before: Bar, bar: Bar) -> bool:
    """Both are too narrow to be told apart."""
    touches = bar.x - (before.x + before.width) < NARROW
    return touches and bar.outcome == before.outcome and bar.width <= 2 * NARROW


def _joined(before: Bar, bar: Bar) -> Bar:
    width = round(bar.x + bar.width - before.x, 3)
    took_s = (before.took_s or 0.0) + (bar.took_s or 0.0)
    return replace(before, width=width, has_room=width >= ROOM, took_s=took_s, count=before.count + bar.count)

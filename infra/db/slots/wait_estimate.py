"""The estimated wait of a task, in seconds."""

from __future__ import annotations

from collections.abc import Sequence

from infra.db.slots.capacity import Capacity

UNKNOWN_WAIT_S = -1
"""The value of the column `estimated_wait_s`, which is NOT NULL, for an unknown wait."""


def expected_wait_s(ahead: int, capacity: Capacity) -> int | None:
    """`estimatedWaitTime` of a task with `ahead` others before it, in seconds; None if no ACTIVE node serves it."""
    wait_s = until_start_s(ahead, capacity.ends_s, capacity.usual_s)
    return None if wait_s is None else round(wait_s)


def estimated_ahead(counted: int, unfinished: int, capacity: Capacity) -> int:
    """The number of tasks before a place that has at least `counted`; `unfinished`: tasks of the type, with those that
    run."""
    return max(counted, unfinished - len(capacity.remaining_s))


def until_start_s(ahead: int, ends_s: Sequence[float], usual_s: float) -> float | None:
    """Seconds until a task starts that has `ahead` others before it; None without a slot.

    `ends_s`: see `Capacity`; `usual_s` is how long one of the tasks ahead takes.
    """
    if not ends_s:
        return None
    rounds, place = divmod(ahead, len(ends_s))
    return ends_s[place] + rounds * usual_s


def interval_s(ahead: int, capacity: Capacity, spread: tuple[float, float] | None) -> tuple[float, float] | None:
    """The expected wait as an interval in seconds: if work took as long as its quicker and its slower quarter do.

    None if no ACTIVE node serves the type; `spread`: the quartiles of its duration, None if none has completed.
    """
    expected = until_start_s(ahead, capacity.ends_s, capacity.usual_s)
    if expected is None:
        return None
    quick, slow = spread or (capacity.usual_s / 2, capacity.usual_s * 2)
    usual = max(capacity.usual_s, 0.001)
    return expected * min(quick / usual, 1.0), expected * max(slow / usual, 1.0)


def stored_wait(wait_s: int | None) -> int:
    """The value of `estimated_wait_s` for a wait in seconds."""
    return UNKNOWN_WAIT_S if wait_s is None else wait_s


def wait_of(stored: int) -> int | None:
    """The wait in seconds that a stored `estimated_wait_s` means, or None if it is unknown."""
    return None if stored == UNKNOWN_WAIT_S else stored

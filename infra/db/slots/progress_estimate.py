"""A task's progress: as its node reports it, otherwise elapsed over usual duration (DESIGN)."""

from __future__ import annotations

from infra.db.slots.capacity import Capacity, remaining_s
from infra.db.slots.wait_estimate import expected_wait_s
from infra.db.tasks.queries import Progress

MOST = 99
"""Percent that are shown before the end."""


def of(row: Progress, capacity: Capacity, ahead: int) -> tuple[int, int | None]:
    """Percent, and seconds until the end (None if unknown); `ahead` others come before a task that waits."""
    if row.status == "QUEUED":
        waits_s = wait_s(row, capacity, ahead)
        return 0, None if waits_s is None else waits_s + round(capacity.usual_s)
    if row.status != "PROCESSING":
        return (100 if row.status == "COMPLETED" else 0), 0
    elapsed_s = max((row.now - (row.started_at or row.now)).total_seconds(), 0.0)  # the clock may have been set back
    percent = row.progress
    if percent is None:
        percent = int(100 * elapsed_s / max(capacity.usual_s, 0.001))
    return min(MOST, percent), round(remaining_s(elapsed_s, row.progress, capacity.usual_s))


def wait_s(row: Progress, capacity: Capacity, ahead: int) -> int | None:
    """Seconds until a QUEUED task starts (None if unknown): 0 if it has a slot."""
    return expected_wait_s(ahead, capacity) if row.attempt is None else 0

"""A task's progress: as its node reports it, else elapsed over usual duration, at most 99 (DESIGN)."""

from __future__ import annotations

from infra.db.slots.capacity import Capacity
from infra.db.slots.wait_estimate import expected_wait_s
from infra.db.tasks.queries import Progress


def of(row: Progress, capacity: Capacity, ahead: int) -> tuple[int, int | None]:
    """Percent, and seconds until the end (None if unknown); `ahead` others come before a task that waits."""
    if row.status == "QUEUED":
        left_s = wait_s(row, capacity, ahead)
        return 0, None if left_s is None else left_s + round(capacity.usual_s)
    if row.status != "PROCESSING":
        return (100 if row.status == "COMPLETED" else 0), 0
    elapsed_s = max((row.now - (row.started_at or row.now)).total_seconds(), 0.0)  # the clock may have been set back
    if row.progress:
        return row.progress, max(0, round(elapsed_s * (100 - row.progress) / row.progress))
    percent = 0 if row.progress == 0 else min(99, int(100 * elapsed_s / max(capacity.usual_s, 0.001)))
    return percent, max(0, round(capacity.usual_s - elapsed_s))


def wait_s(row: Progress, capacity: Capacity, ahead: int) -> int | None:
    """Seconds until a QUEUED task starts (None if unknown): 0 if it has a slot."""
    return expected_wait_s(ahead, capacity) if row.attempt is None else 0

"""A running task's progress, as its node reports it or as it is estimated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.db.slots import progress_estimate
from infra.db.slots.capacity import Capacity, Nodes
from infra.db.tasks.queries import Progress

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONE = Nodes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def shown(reported: int | None, elapsed_s: float, status: str = "PROCESSING") -> tuple[int, int | None]:
    row = Progress(
        queue_class=0, queue_rank=0, display_id=1, task_id="t", status=status, user_id="u", lineage=None,
        gpu_id="g", task_type=1, started_at=NOW - timedelta(seconds=elapsed_s), updated_at=NOW, waiting_since=None,
        vip=False, barred_on=[], attempt=1, progress=reported, progress_at=None, now=NOW,
    )  # fmt: skip
    return progress_estimate.of(row, Capacity(NONE, [1], [], 100.0, []), ahead=0)


@pytest.mark.parametrize(
    ("reported", "elapsed_s", "expected"),
    [(95, 19, (95, 1)), (99, 99, (99, 1)), (100, 50, (99, 0)), (0, 30, (0, 70)), (None, 30, (30, 70)),
     (None, 1000, (99, 0)), (None, -5, (0, 100))],
)  # fmt: skip
def test_nothing_is_whole_before_the_end(reported: int | None, elapsed_s: float, expected: tuple[int, int]) -> None:
    assert shown(reported, elapsed_s) == expected


def test_the_end_is() -> None:
    assert [shown(50, 1, status)[0] for status in ("COMPLETED", "FAILED", "TIMEOUT")] == [100, 0, 0]

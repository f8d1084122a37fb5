"""Sums of the kept counts, by status and by type."""

from __future__ import annotations

import pytest

from infra.db.ops.kinds import Kind, by_status, by_type
from workflows.domain.task import UNFINISHED

COUNTED: dict[Kind, int] = {(2, "QUEUED"): 3, (2, "COMPLETED"): 5, (7, "FAILED"): 2, (None, "QUEUED"): 4}


@pytest.mark.parametrize(
    ("task_type", "counts"),
    [(None, (7, 0, 5, 2, 0)), (2, (3, 0, 5, 0, 0)), (7, (0, 0, 0, 2, 0)), (9, (0, 0, 0, 0, 0))],
)
def test_each_status_has_its_number(task_type: int | None, counts: tuple[int, ...]) -> None:
    names = ("QUEUED", "PROCESSING", "COMPLETED", "FAILED", "TIMEOUT")
    assert by_status(COUNTED, task_type) == dict(zip(names, counts, strict=True))


def test_a_type_has_its_number_if_any_is_in_these_statuses() -> None:
    assert by_type(COUNTED) == {2: 8, 7: 2, None: 4}
    assert set(by_type(COUNTED, UNFINISHED).items()) == {(2, 3), (None, 4)}

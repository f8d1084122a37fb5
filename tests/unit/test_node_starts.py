"""Work that could not be started is tried again by one attempt at a time."""

from __future__ import annotations

import pytest

from workers.node.errors import CannotStart, NotReady, SetupFailed
from workers.node.starts import Starts

GONE, NOT_IMPORTED = CannotStart("gone"), SetupFailed("not imported")


def fail(starts: Starts, task_type: int, failure: CannotStart = GONE) -> None:
    starts.check(task_type)
    with pytest.raises(CannotStart), starts.tried(task_type):
        raise failure


def test_work_that_starts_is_not_counted() -> None:
    starts = Starts()
    with starts.tried(2), starts.tried(2):
        starts.check(2)
    assert starts.failure is None


def test_after_a_failure_one_attempt_at_a_time_tries() -> None:
    starts = Starts()
    fail(starts, 2)
    with starts.tried(2), pytest.raises(NotReady, match="gone"):
        starts.check(2)
    fail(starts, 2, NOT_IMPORTED)
    assert starts.failure is NOT_IMPORTED


def test_a_start_that_works_lets_others_in_before_its_work_ends() -> None:
    starts = Starts()
    fail(starts, 2)
    with starts.tried(2):
        starts.worked(2)
        assert starts.failure is None
        fail(starts, 2)
        starts.check(2)


def test_an_attempt_that_is_stopped_before_its_start_makes_way() -> None:
    starts = Starts()
    fail(starts, 2)
    with starts.tried(2):
        pass
    starts.check(2)
    assert starts.failure is GONE


def test_each_type_is_its_own() -> None:
    starts = Starts()
    fail(starts, 2)
    with starts.tried(2):
        fail(starts, 3, NOT_IMPORTED)
        with starts.tried(3):
            starts.worked(2)
            assert starts.failure is NOT_IMPORTED

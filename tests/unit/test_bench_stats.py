"""The bench's statistics: raw samples, nearest rank, the perfect schedule, events per hour."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.fleet import Event, per_hour
from tests.bench.makespan import durations
from tests.bench.stats import Samples, list_schedule

values = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1)


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert Samples.of(range(100, 0, -1)).quantile(share) == expected


def test_the_p99_of_few_samples_is_the_largest() -> None:
    assert Samples.of([3, 1, 2]).p99 == 3
    assert Samples.of([3, 1, 2]).p50 == 2


@given(values, st.floats(min_value=0.001, max_value=1))
def test_a_quantile_is_a_sample_that_enough_do_not_exceed(taken: list[float], share: float) -> None:
    found = Samples.of(taken).quantile(share)
    assert found in taken
    assert sum(value <= found for value in taken) >= share * len(taken)


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="no sample"):
        Samples.of([])


@pytest.mark.parametrize("share", [0, -0.5, 1.01])
def test_a_share_lies_between_nothing_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="no share"):
        Samples.of([1]).quantile(share)


def test_samples_add_up() -> None:
    both = Samples.of([1, 2]) + Samples.of([3])
    assert (both.n, both.mean) == (3, 2)


def test_a_list_schedule_gives_each_task_to_the_slot_that_is_free_first() -> None:
    assert list_schedule([3, 1, 1, 1], slots=2) == 3
    assert list_schedule([1, 1, 1, 3], slots=2) == 4


@given(st.lists(st.floats(min_value=0.01, max_value=10), min_size=1, max_size=50), st.integers(1, 8))
def test_no_schedule_beats_the_work_over_the_slots_or_the_longest_task(batch: list[float], slots: int) -> None:
    makespan = list_schedule(batch, slots)
    assert makespan >= max(sum(batch) / slots, max(batch)) - 1e-9
    assert makespan <= sum(batch) / slots + max(batch) + 1e-9


@pytest.mark.parametrize("count", [64, 480])
def test_the_batch_of_mixed_durations_could_be_served_almost_without_idle_slots(count: int) -> None:
    batch = durations(count)
    assert len(batch) == count
    assert sum(batch) / 8 / list_schedule(batch, 8) > 0.97


START = datetime(2026, 1, 1)  # noqa: DTZ001  Temporal's own are naive UTC


def turns(count: int, *, every_s: float, timer_first: bool) -> list[Event]:
    """A node's history: a start, and turns of its timer, of six events each."""
    history = [("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED", START)]
    for number in range(count):
        begun = ["TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_COMPLETED"]
        decided = ["MARKER_RECORDED", "TIMER_STARTED"]
        if timer_first and number == 0:
            decided.reverse()
        at = START + timedelta(seconds=number * every_s)
        history += [(f"EVENT_TYPE_{kind}", at) for kind in (*begun[number == 0 :], *decided)]
    return history


@pytest.mark.parametrize("timer_first", [True, False])
def test_events_per_hour_are_counted_over_whole_turns_of_the_timer(timer_first: bool) -> None:
    assert per_hour(turns(3, every_s=120, timer_first=timer_first)) == 180


def test_events_per_hour_need_two_turns() -> None:
    assert per_hour(turns(1, every_s=120, timer_first=True)) is None
    assert per_hour([]) is None

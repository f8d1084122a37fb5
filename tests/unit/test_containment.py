"""Containment as pure rules: alike failures, whose fault they are, outliers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.attempt import Outcome
from workflows.domain.containment import (
    POISON_NODES,
    PROMISED_RETRIES,
    Failure,
    Record,
    failed_alike_on,
    is_nodes_fault,
    is_outlier,
)
from workflows.domain.retry import judge
from workflows.domain.task import TaskStatus

CLEAN = [Record(10, 0)] * 3


def failed(gpu_id: str, reason: str | None = "boom", outcome: Outcome = Outcome.FAILED) -> Failure:
    return Failure(gpu_id, outcome, reason)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("boom", "boom", True),
        ("boom", "bang", False),
        ("segfault at 0x7f3a12 in pid 48213", "segfault at 0x55B0 in pid 9120", True),
        ("a\n  b", "a b", True),
        ("exit status 1", "exit status 137", False),
        (None, "", True),
    ],
)
def test_failures_are_alike_by_their_reason(one, other, alike):
    assert (failed("a", one).way == failed("b", other).way) is alike


def test_timeouts_are_alike_whatever_was_said_and_never_like_a_failure():
    assert failed("a", "x", Outcome.TIMED_OUT).way == failed("b", "y", Outcome.TIMED_OUT).way
    assert failed("a", None, Outcome.TIMED_OUT).way != failed("b", None).way


def test_only_distinct_nodes_count_and_only_those_that_failed_alike():
    earlier = [failed("a"), failed("a"), failed("b", "bang"), failed("c", outcome=Outcome.TIMED_OUT)]
    assert failed_alike_on(earlier, failed("d")) == {"a", "d"}


@given(st.lists(st.sampled_from("ab"), max_size=6))
def test_the_first_node_is_always_blamed_and_nobody_after_another_failed_alike(nodes):
    for number, gpu_id in enumerate(nodes):
        blamed = is_nodes_fault([failed(one) for one in nodes[:number]], failed(gpu_id))
        assert blamed is (set(nodes[:number]) <= {gpu_id})


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.FAILED, TaskStatus.FAILED), (Outcome.TIMED_OUT, TaskStatus.TIMEOUT)]
)
def test_a_task_that_three_nodes_failed_alike_has_the_promised_retries_and_no_more(outcome, status):
    two = judge(outcome, retry_count=PROMISED_RETRIES, max_retries=9, failed_alike_on=POISON_NODES - 1)
    assert (two.status, two.given_up) == (TaskStatus.QUEUED, False)
    early = judge(outcome, retry_count=PROMISED_RETRIES - 1, max_retries=9, failed_alike_on=POISON_NODES)
    assert (early.status, early.given_up) == (TaskStatus.QUEUED, False)
    three = judge(outcome, retry_count=PROMISED_RETRIES, max_retries=9, failed_alike_on=POISON_NODES)
    assert (three.status, three.retry_count, three.given_up) == (status, PROMISED_RETRIES, True)
    last = judge(outcome, retry_count=9, max_retries=9, failed_alike_on=POISON_NODES)
    assert (last.status, last.given_up) == (status, False)


def test_three_tasks_of_ten_that_others_completed_make_an_outlier():
    assert is_outlier(Record(10, 3), CLEAN)
    assert is_outlier(Record(3, 3), [])
    assert not is_outlier(Record(10, 2), CLEAN)
    assert not is_outlier(Record(2, 2), CLEAN)


def test_work_that_fails_now_and_then_everywhere_accuses_nobody():
    flaky = [Record(10, 2)] * 5
    assert not is_outlier(Record(10, 5), flaky)
    assert is_outlier(Record(10, 8), flaky)


def test_a_few_broken_peers_hide_nobody():
    assert is_outlier(Record(10, 4), [*CLEAN, Record(10, 5), Record(10, 5)])


@given(st.integers(0, 10), st.lists(st.integers(0, 10), max_size=8))
def test_failing_more_is_never_judged_milder(count, peers):
    records = [Record(10, one) for one in peers]
    if count and is_outlier(Record(10, count - 1), records):
        assert is_outlier(Record(10, count), records)

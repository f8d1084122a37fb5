"""The pure core: transitions, retry policy, priority classes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain import gpu, task
from workflows.domain.attempt import REQUEUES, RULES, USES_RETRY, ForTask, Outcome
from workflows.domain.errors import IllegalTransition
from workflows.domain.gpu import GpuStatus
from workflows.domain.priority import queue_class
from workflows.domain.retry import BACKOFF_CAP_S, backoff_s, judge
from workflows.domain.task import TERMINAL, TaskStatus

STATUSES = [None, *TaskStatus]


@given(st.sampled_from(STATUSES), st.sampled_from(list(TaskStatus)))
def test_terminal_states_absorb(before, after):
    if before in TERMINAL:
        with pytest.raises(IllegalTransition):
            task.check_transition(before, after)


@given(st.lists(st.sampled_from(list(TaskStatus)), max_size=30))
def test_a_walk_never_leaves_a_terminal_state(wanted):
    status = None
    for after in wanted:
        try:
            task.check_transition(status, after)
        except IllegalTransition:
            continue
        assert status not in TERMINAL
        status = after


def test_faulty_ends_by_activation_or_removal_only():
    assert {after for before, after in gpu.TRANSITIONS if before is GpuStatus.FAULTY} == {GpuStatus.ACTIVE, None}


JUDGED = [outcome for outcome, rule in RULES.items() if rule.task is not ForTask.ENDED]


def test_an_attempt_whose_task_has_ended_is_not_judged():
    with pytest.raises(ValueError, match="TASK_ENDED"):
        judge(Outcome.TASK_ENDED, retry_count=0, max_retries=3)


@given(st.sampled_from(JUDGED), st.integers(0, 10), st.integers(0, 10))
def test_the_verdict_on_an_attempt_is_a_legal_transition(outcome, retry_count, max_retries):
    verdict = judge(outcome, retry_count=retry_count, max_retries=max_retries)
    if verdict.status is not TaskStatus.QUEUED or outcome not in REQUEUES:
        task.check_transition(TaskStatus.PROCESSING, verdict.status)
    used = verdict.retry_count - retry_count
    assert used == int(outcome in USES_RETRY and retry_count < max_retries)


@given(st.integers(0, 10))
def test_attempts_that_use_a_retry_are_one_more_than_retries(max_retries):
    retry_count, attempts = 0, 0
    while True:
        attempts += 1
        verdict = judge(Outcome.FAILED, retry_count=retry_count, max_retries=max_retries)
        retry_count = verdict.retry_count
        if verdict.status in TERMINAL:
            break
    assert attempts == max_retries + 1


@given(st.integers(1, 10_000))
def test_backoff_doubles_up_to_its_cap(count):
    assert backoff_s(1) == 1.0
    assert backoff_s(count) <= backoff_s(count + 1) <= BACKOFF_CAP_S


@given(st.integers(-(2**63), 2**63 - 1))
def test_two_and_more_is_vip(priority):
    assert queue_class(priority) == int(priority >= 2)

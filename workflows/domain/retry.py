"""The retry policy of a task (DESIGN, Timeout): pure, so that the workflow and the projection agree on it."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.domain.attempt import REQUEUES, USES_RETRY, Outcome
from workflows.domain.task import TaskStatus

BACKOFF_FIRST_S = 1.0
BACKOFF_CAP_S = 60.0


@dataclass(frozen=True)
class Verdict:
    """What becomes of a task after an attempt: its next status, its retryCount, and how long it pauses (seconds)."""

    status: TaskStatus
    retry_count: int
    pause_s: float = 0.0


def backoff_s(count: int) -> float:
    """Seconds before the `count`-th repetition (1 is the first): 1, 2, 4 … capped at 60."""
    if count <= 0:
        return 0.0
    return min(BACKOFF_FIRST_S * 2.0 ** min(count - 1, 16), BACKOFF_CAP_S)


def judge(outcome: Outcome, *, retry_count: int, max_retries: int) -> Verdict:
    """Decide what follows an attempt that closed with `outcome` when `retry_count` retries were used before it."""
    if outcome is Outcome.SUCCEEDED:
        return Verdict(TaskStatus.COMPLETED, retry_count)
    if outcome is Outcome.REJECTED:
        return Verdict(TaskStatus.FAILED, retry_count)
    if outcome in REQUEUES:
        return Verdict(TaskStatus.QUEUED, retry_count)
    assert outcome in USES_RETRY
    if retry_count < max_retries:
        return Verdict(TaskStatus.QUEUED, retry_count + 1, backoff_s(retry_count + 1))
    return Verdict(TaskStatus.TIMEOUT if outcome is Outcome.TIMED_OUT else TaskStatus.FAILED, retry_count)

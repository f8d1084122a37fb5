"""The retry policy of a task (DESIGN, Timeout): pure, so that the workflow and the projection agree on it."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.domain.attempt import REQUEUES, USES_RETRY, Outcome
from workflows.domain.containment import POISON_NODES, PROMISED_RETRIES
from workflows.domain.task import TaskStatus

BACKOFF_FIRST_S = 1.0
BACKOFF_CAP_S = 60.0


@dataclass(frozen=True)
class Verdict:
    """What becomes of a task after an attempt: its next status, its retryCount, and how long it pauses (seconds).

    `given_up`: it ends though it has retries left.
    """

    status: TaskStatus
    retry_count: int
    pause_s: float = 0.0
    given_up: bool = False


def backoff_s(count: int) -> float:
    """Seconds before the `count`-th repetition (1 is the first): 1, 2, 4 … capped at 60."""
    if count <= 0:
        return 0.0
    return min(BACKOFF_FIRST_S * 2.0 ** min(count - 1, 16), BACKOFF_CAP_S)


def judge(outcome: Outcome, *, retry_count: int, max_retries: int, failed_alike_on: int = 1) -> Verdict:
    """Decide what follows an attempt that closed with `outcome` when `retry_count` retries were used before it.

    `failed_alike_on` are the distinct nodes on which the task has failed in the same way, this one included.
    """
    if outcome is Outcome.SUCCEEDED:
        return Verdict(TaskStatus.COMPLETED, retry_count)
    if outcome is Outcome.REJECTED:
        return Verdict(TaskStatus.FAILED, retry_count)
    if outcome in REQUEUES:
        return Verdict(TaskStatus.QUEUED, retry_count)
    assert outcome in USES_RETRY
    poison = failed_alike_on >= POISON_NODES and retry_count >= PROMISED_RETRIES
    if retry_count < max_retries and not poison:
        return Verdict(TaskStatus.QUEUED, retry_count + 1, backoff_s(retry_count + 1))
    status = TaskStatus.TIMEOUT if outcome is Outcome.TIMED_OUT else TaskStatus.FAILED
    return Verdict(status, retry_count, given_up=retry_count < max_retries)

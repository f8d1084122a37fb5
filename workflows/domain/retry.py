"""The retry policy of a task (DESIGN, Timeout): a pure function of how its attempts have ended."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.domain.attempt import RULES, ForTask, Outcome
from workflows.domain.fault_attribution import POISON_NODES, PROMISED_RETRIES
from workflows.domain.task import TaskStatus

BACKOFF_FIRST_S = 1.0
BACKOFF_CAP_S = 60.0
REJECTIONS = 2
"""Distinct nodes that must reject an input before that is believed, where there are as many."""
PROTOCOL_ERRORS = 3
"""Attempts that end in an answer outside of the node protocol before the task fails."""


@dataclass(frozen=True)
class History:
    """A task's past, including the attempt that is being judged."""

    failed_alike_on: int = 1  # distinct nodes on which it has failed in the same way
    rejected_by: int = 0  # distinct nodes
    protocol_errors: int = 0  # attempts
    others: bool = True  # another node could take it that has neither rejected it nor answered outside of the protocol


@dataclass(frozen=True)
class RetryDecision:
    """The decision after an attempt: the task's next status, its retryCount, and how long it pauses (seconds).

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


def judge(outcome: Outcome, *, retry_count: int, max_retries: int, history: History = History()) -> RetryDecision:
    """Decide what follows an attempt that closed with `outcome` when `retry_count` retries were used before it.

    Raises ValueError for an attempt that was closed because its task had ended.
    """
    match RULES[outcome].task:
        case ForTask.COMPLETES:
            return RetryDecision(TaskStatus.COMPLETED, retry_count)
        case ForTask.WAITS:
            return RetryDecision(TaskStatus.QUEUED, retry_count)
        case ForTask.ASKS_ANOTHER:
            believed = _rejected(history) if outcome is Outcome.REJECTED else history.protocol_errors >= PROTOCOL_ERRORS
            return RetryDecision(TaskStatus.FAILED if believed else TaskStatus.QUEUED, retry_count)
        case ForTask.RETRIES:
            return _retried(outcome, retry_count, max_retries, history)
        case ForTask.ENDED:
            raise ValueError(f"{outcome}: the task has ended")


def _rejected(history: History) -> bool:
    return history.rejected_by >= REJECTIONS or not history.others


def _retried(outcome: Outcome, retry_count: int, max_retries: int, history: History) -> RetryDecision:
    poison = history.failed_alike_on >= POISON_NODES and retry_count >= PROMISED_RETRIES
    if retry_count < max_retries and not poison:
        return RetryDecision(TaskStatus.QUEUED, retry_count + 1, backoff_s(retry_count + 1))
    status = TaskStatus.TIMEOUT if outcome is Outcome.TIMED_OUT else TaskStatus.FAILED
    return RetryDecision(status, retry_count, given_up=retry_count < max_retries)

"""A task's states and legal transitions (INVARIANTS, "Legal transitions"; specification, TaskDO.status)."""

from __future__ import annotations

from enum import StrEnum

from workflows.domain.errors import IllegalTransition

USUAL_DURATION_S = 60.0
"""The presumed run time of a type that has never finished a task."""


class TaskStatus(StrEnum):
    """QUEUED until a node has accepted it, PROCESSING while one runs it; the other three are final."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"


TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT})
UNFINISHED = frozenset(TaskStatus) - TERMINAL


class EndReason(StrEnum):
    """Why a task has ended (ADR 0035). The first three are also statuses."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    REJECTED = "REJECTED"  # nodes said that this input can never work
    POISON = "POISON"  # it failed in the same way on several nodes
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"  # not started by `expiresAt`
    DEADLINE = "DEADLINE"  # not ended by `deadline`


ENDS_AS = {
    EndReason.REJECTED: TaskStatus.FAILED,
    EndReason.POISON: TaskStatus.FAILED,
    EndReason.CANCELLED: TaskStatus.FAILED,
    EndReason.EXPIRED: TaskStatus.TIMEOUT,
    EndReason.DEADLINE: TaskStatus.TIMEOUT,
}
"""The status of a task that ended for such a reason. The others are statuses themselves."""
FROM_OUTSIDE = frozenset({EndReason.CANCELLED, EndReason.EXPIRED, EndReason.DEADLINE})
"""Reasons that are nobody's failure: the task was ended from outside of its workflow (INVARIANTS 14)."""

FAILURE_TYPES = {TaskStatus.FAILED: "TaskFailed", TaskStatus.TIMEOUT: "TaskTimedOut"}
"""The error type with which a task's workflow fails, by the task's status."""

TRANSITIONS: frozenset[tuple[TaskStatus | None, TaskStatus]] = frozenset(
    {
        (None, TaskStatus.QUEUED),
        (TaskStatus.QUEUED, TaskStatus.PROCESSING),
        (TaskStatus.QUEUED, TaskStatus.FAILED),
        (TaskStatus.QUEUED, TaskStatus.TIMEOUT),
        (TaskStatus.PROCESSING, TaskStatus.COMPLETED),
        (TaskStatus.PROCESSING, TaskStatus.FAILED),
        (TaskStatus.PROCESSING, TaskStatus.TIMEOUT),
        (TaskStatus.PROCESSING, TaskStatus.QUEUED),
    }
)


def check_transition(before: TaskStatus | None, after: TaskStatus) -> None:
    """Raise IllegalTransition unless `before` → `after` is a transition of the table."""
    if (before, after) not in TRANSITIONS:
        raise IllegalTransition(f"{before or '-'} → {after}")

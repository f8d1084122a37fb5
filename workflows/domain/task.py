"""A task's states and legal edges (INVARIANTS, "Legal transitions"; specification, TaskDO.status)."""

from __future__ import annotations

from enum import StrEnum

from workflows.domain.errors import IllegalTransition

USUAL_DURATION_S = 60.0
"""The presumed run time of a type that has never finished a task."""


class TaskStatus(StrEnum):
    """QUEUED until a node has accepted it, PROCESSING while one runs it; the other three absorb."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"


TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT})

FAILURE_TYPES = {TaskStatus.FAILED: "TaskFailed", TaskStatus.TIMEOUT: "TaskTimedOut"}
"""The error type with which the workflow of a task that ended so fails."""

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


def check_edge(before: TaskStatus | None, after: TaskStatus) -> None:
    """Raise IllegalTransition unless `before` → `after` is an edge of the table."""
    if (before, after) not in TRANSITIONS:
        raise IllegalTransition(f"{before or '-'} → {after}")

"""The signals that a transaction calls for, sent after its commit."""

from __future__ import annotations

from dataclasses import dataclass, field

from workflows.messages import Grant, TaskInput


@dataclass(frozen=True)
class Granted:
    """A slot that was assigned to a waiting task."""

    task_id: str
    grant: Grant
    delayed: TaskInput | None = None  # of a workflow whose first step may still be put off (ADR 0018)
    traceparent: str | None = None  # of the task's own trace


@dataclass
class Notifications:
    """The workflows to signal. The reconciler repeats a signal that is lost."""

    granted: list[Granted] = field(default_factory=list)
    settled: list[tuple[str, int]] = field(default_factory=list)  # (task id, attempt)
    nodes: list[tuple[str, str, int]] = field(default_factory=list)  # (gpu id, signal, epoch)

    def add(self, other: Notifications) -> None:
        """Add another transaction step's signals."""
        self.granted += other.granted
        self.settled += other.settled
        self.nodes += other.nodes

    def __bool__(self) -> bool:
        return bool(self.granted or self.settled or self.nodes)

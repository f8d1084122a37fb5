"""Notifications: the messages that workflows get after the commit of a transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workflows.messages import Grant, TaskInput


@dataclass(frozen=True)
class Granted:
    """A slot that was assigned to a waiting task. `task` begins its workflow where none runs."""

    task: TaskInput
    grant: Grant
    traceparent: str | None = None  # of the task's own trace

    @classmethod
    def of(cls, task: Any, grant: Grant) -> Granted:
        """The notification for an object that has a task's columns as attributes."""
        return cls(TaskInput.of(task, waits=True), grant, task.traceparent)


@dataclass(frozen=True)
class ClosedAttempt:
    """An attempt that its task's workflow is to collect."""

    task_id: str
    attempt: int


@dataclass(frozen=True)
class NodeEvent:
    """Something that happened to a node; `signal` is its name for the node's workflow."""

    gpu_id: str
    signal: str
    epoch: int


@dataclass
class Notifications:
    """The workflows to notify, grants first. The reconciler repeats a notification that is lost."""

    grants: list[Granted] = field(default_factory=list)
    closed: list[ClosedAttempt] = field(default_factory=list)
    nodes: list[NodeEvent] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Tasks that were ended from outside of their workflow."""

    def add(self, other: Notifications) -> None:
        """Add those of another step of the transaction."""
        self.grants += other.grants
        self.closed += other.closed
        self.nodes += other.nodes
        self.ended += other.ended

    def __bool__(self) -> bool:
        return bool(self.grants or self.closed or self.nodes or self.ended)

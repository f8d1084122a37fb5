"""The course of one task, put together from the messages of its stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workers.command import exits
from workers.command.durations import about, span
from workers.command.output import one_line


class Update(NamedTuple):
    """A message of a stream."""

    kind: str
    data: dict[str, Any]


@dataclass
class Course:
    """The known state of a task; times in Unix milliseconds, durations in seconds."""

    task: Mapping[str, Any] = field(default_factory=dict)
    status: str = "QUEUED"
    place: int | None = None
    wait_s: float | None = None
    reason: str | None = None
    attempt: int | None = None
    gpu_id: str | None = None
    progress: int = 0
    remaining_s: float | None = None

    def see(self, update: Update) -> None:
        """Update the course from a message of the stream."""
        data = update.data
        match update.kind:
            case "snapshot" | "end":
                self.task = data
                self._to(data.get("status"), data.get("gpuId"))
            case "status":
                inner = data.get("data") or {}
                self.attempt = inner.get("attempt", self.attempt)
                self._to(inner.get("status"), data.get("gpuId"))
            case "attempt":
                self.attempt, self.gpu_id = data.get("attempt"), data.get("gpuId")
            case "place":
                self.place, self.wait_s = data.get("queuePosition"), data.get("estimatedWaitTime")
                self.reason = data.get("reason", self.reason)
            case "progress":
                self.progress, self.remaining_s = data.get("progress") or 0, data.get("estimatedRemainingTime")
            case _:
                pass  # of a later version

    def _to(self, status: str | None, gpu_id: str | None) -> None:
        if status is not None and status != self.status:
            self.status, self.progress, self.remaining_s = status, 0, None
            self.place = self.wait_s = self.reason = None
        self.gpu_id = gpu_id or (self.gpu_id if self.status != "QUEUED" else None)

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended."""
        return self.status in exits.ENDED

    @property
    def stage(self) -> tuple[str, int | None, str | None]:
        """The state whose change gets a line of its own."""
        return self.status, self.attempt if self.status == "PROCESSING" else None, self.gpu_id


def state_of(course: Course) -> str:
    """Where the task is, on one line."""
    if course.has_ended:
        return end_of(course.task)
    if course.status == "PROCESSING":
        attempt = f", attempt {course.attempt}" if (course.attempt or 1) > 1 else ""
        return f"runs on {course.gpu_id or '?'}{attempt}, {course.progress} %{remaining(course)}"
    return f"{waiting(course)}, {one_line(course.reason)}" if course.reason else waiting(course)


def waiting(course: Course) -> str:
    """The place and the time of a task that waits."""
    if course.place is None:
        return "waits"
    start = "start unknown" if course.wait_s is None else f"starts in about {about(course.wait_s)}"
    return f"waits, place {course.place}, {start}"


def remaining(course: Course) -> str:
    """The remaining run time, preceded by a comma; empty if unknown."""
    return "" if course.remaining_s is None else f", about {about(course.remaining_s)} left"


def end_of(task: Mapping[str, Any]) -> str:
    """How a task has ended, on one line."""
    reason = task.get("endReason") or task.get("status") or "?"
    parts = [str(reason)]
    if task.get("completedAt") and task.get("createdAt"):
        parts.append(f"after {span((task['completedAt'] - task['createdAt']) / 1000)}")
    if task.get("gpuId"):
        parts.append(f"on {task['gpuId']}")
    text = " ".join(parts)
    return f"{text}: {one_line(task['errorMessage'])}" if task.get("errorMessage") else text

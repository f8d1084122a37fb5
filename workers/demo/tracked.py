"""A task of the demo as seen from outside: its job, its latest record, its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpu_orchestrator_client import Event, Task
from workers.demo.batch import Job

ENDED = {"COMPLETED", "FAILED", "TIMEOUT"}


@dataclass(slots=True)
class Tracked:
    """One task, kept up to date by polling."""

    task_id: str
    display_id: int
    job: Job
    status: str = "QUEUED"
    gpu_id: str | None = None
    progress: int = 0
    seconds: float | None = None  # from creation to the end
    attempts: int = 0
    nodes: list[str] = field(default_factory=list)  # in order; the same node twice only when another was between
    problem: str | None = None  # why its result is not right

    def see(self, task: Task) -> bool:
        """Take over the task as it is listed. Returns True if it has just begun on a node."""
        before = self.status, self.gpu_id
        self.status, self.gpu_id = task.status, task.gpu_id
        if task.completed_at:
            self.seconds = (task.completed_at - task.created_at).total_seconds()
        began = self.status == "PROCESSING" and before != (self.status, self.gpu_id)
        if self.gpu_id and (began or self.ended):
            self._was_on(self.gpu_id)
        return began

    def recall(self, events: Sequence[Event]) -> None:
        """Take the full history from its events, if there are any; polling may have missed a part."""
        on_nodes = [(event.gpu_id, event.data.get("attempt")) for event in events if event.gpu_id]
        if on_nodes:
            self.nodes = []
            for gpu_id, _ in on_nodes:
                self._was_on(gpu_id)
        self.attempts = len({attempt for _, attempt in on_nodes} - {None}) or len(self.nodes)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def moved_off(self, node: str) -> bool:
        """Whether it was on this node and then ended on another."""
        return node in self.nodes[:-1] and self.nodes[-1] != node

    def _was_on(self, node: str) -> None:
        if self.nodes[-1:] != [node]:
            self.nodes.append(node)

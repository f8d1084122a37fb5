"""Queries for open workflows, and what we read from the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecution
from temporalio.common import RawValue, SearchAttributeKey

TASK, NODE = "TaskWorkflow", "GpuHealthWorkflow"
PROBLEMS = SearchAttributeKey.for_keyword_list("TemporalReportedProblems")
"""The server sets it on a workflow whose workflow task fails again and again, and unsets it once one succeeds."""
WITH_PROBLEMS = f"{PROBLEMS.name} IN ('category=WorkflowTaskFailed', 'category=WorkflowTaskTimedOut')"
"""`IS NOT NULL` would read all open workflows."""
OF_NODES = f"WorkflowType = '{NODE}'"
_CAUSE = "cause=WorkflowTaskFailedCause"


@dataclass(frozen=True)
class OpenTask:
    """A task whose workflow is open."""

    task_id: str
    started_at: datetime


@dataclass(frozen=True)
class StuckRun:
    """A run whose workflow task fails again and again. `causes` are Temporal's own names."""

    workflow_id: str
    run_id: str
    workflow: str
    causes: frozenset[str]

    @classmethod
    def of(cls, one: WorkflowExecution) -> StuckRun:
        """Read an entry of the list."""
        problems = one.typed_search_attributes.get(PROBLEMS) or ()
        causes = frozenset(problem.removeprefix(_CAUSE) for problem in problems if problem.startswith(_CAUSE))
        return cls(one.id, one.run_id, one.workflow_type, causes)


def unheard(events: Sequence[HistoryEvent]) -> list[tuple[str, list[RawValue]]]:
    """Signals after the last successful workflow task, as they were sent."""
    signals: list[tuple[str, list[RawValue]]] = []
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            signals = []
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            sent = event.workflow_execution_signaled_event_attributes
            signals.append((sent.signal_name, [RawValue(payload) for payload in sent.input.payloads]))
    return signals


def of_tasks(before: datetime | None) -> str:
    """The query for tasks' workflows, optionally only for those started before a moment."""
    return f"WorkflowType = '{TASK}'" + (f" AND StartTime < '{before.isoformat()}'" if before else "")

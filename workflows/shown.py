"""The state that a task's workflow shows: search attributes, current details, and the answer to a query."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from workflows.domain.task import TaskStatus
    from workflows.messages import TaskState

TASK_STATUS = SearchAttributeKey.for_keyword("TaskStatus")
TASK_TYPE = SearchAttributeKey.for_int("TaskType")
GPU_ID = SearchAttributeKey.for_keyword("GpuId")
USER_ID = SearchAttributeKey.for_keyword("UserId")
APP = SearchAttributeKey.for_keyword("App")

WAITING = "waiting: no slot is free; GET /api/v2/tasks/{task_id}/progress says why"


class Shown:
    """The state of a task that is shown now."""

    def __init__(self, attempt: int) -> None:
        self.state = TaskState(TaskStatus.QUEUED, attempt, None, "begins")

    def attempt(self, attempt: int, gpu_id: str | None) -> None:
        """Show its last attempt, and that attempt's node."""
        self.state = replace(self.state, attempt=attempt, gpu_id=gpu_id)

    def status(self, status: TaskStatus, gpu_id: str | None) -> None:
        """Show the status, and the node that runs the task, in the search attributes."""
        self.state = replace(self.state, status=status)
        updates: list[SearchAttributeUpdate[Any]] = [TASK_STATUS.value_set(status.value)]
        updates.append(GPU_ID.value_set(gpu_id) if gpu_id else GPU_ID.value_unset())
        workflow.upsert_search_attributes(updates)

    def details(self, details: str) -> None:
        """Show what the task does or waits for."""
        self.state = replace(self.state, now=details)
        workflow.set_current_details(details)

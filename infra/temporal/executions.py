"""Temporal's own record of the tasks' workflows, read only: for `gpu-orchestrator verify`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

from infra.temporal.task_workflows import task_workflow_id
from workflows.domain.task import FAILURE_TYPES, EndReason
from workflows.messages import TaskSummary
from workflows.shown import TASK_STATUS

CALL = timedelta(seconds=10)
_PREFIX = task_workflow_id("")
_ENDED_BY_ITSELF = {WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.FAILED}
_FAILED_AS = {kind: str(status) for status, kind in FAILURE_TYPES.items()}


@dataclass(frozen=True)
class Execution:
    """One run of a task's workflow. `shown` is its search attribute TaskStatus.

    `reset` means that a person has reset it and another run took its place; only `describe` sets it.
    """

    task_id: str
    run_id: str
    status: WorkflowExecutionStatus
    shown: str | None
    closed_at: datetime | None = None
    reset: bool = False

    @property
    def runs(self) -> bool:
        return self.status is WorkflowExecutionStatus.RUNNING

    @property
    def ended_by_itself(self) -> bool:
        """Whether it has returned or failed, rather than been cut off by a person."""
        return self.status in _ENDED_BY_ITSELF

    @property
    def was_cancelled(self) -> bool:
        """Whether it has closed Canceled, as those of cancelled tasks do."""
        return self.status is WorkflowExecutionStatus.CANCELED

    @property
    def counts(self) -> bool:
        """Whether no other run may exist at the same time. A run that was cut off, or reset, may be replaced."""
        return self.runs or (self.ended_by_itself and not self.reset)


async def every(client: Client) -> AsyncIterator[Execution]:
    """All visible runs. Visibility may lag."""
    async for one in client.list_workflows("WorkflowType = 'TaskWorkflow'", page_size=1000):
        yield _execution(one)


async def describe(client: Client, task_id: str, run_id: str | None = None) -> Execution | None:
    """The current state of one run, by default the last one; None if there is none, or no longer."""
    handle = client.get_workflow_handle(task_workflow_id(task_id), run_id=run_id)
    try:
        found = await handle.describe(rpc_timeout=CALL)
        reset = bool(found.raw_description.workflow_extended_info.reset_run_id)
        return replace(_execution(found), reset=reset)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def outcome(client: Client, task_id: str, run_id: str) -> str:
    """The task's status with which a run has ended, CANCELLED, or a description of another failure."""
    handle = client.get_workflow_handle(task_workflow_id(task_id), run_id=run_id, result_type=TaskSummary)
    try:
        summary: TaskSummary = await handle.result(follow_runs=False, rpc_timeout=CALL)
    except WorkflowFailureError as failure:
        if isinstance(failure.cause, CancelledError):
            return str(EndReason.CANCELLED)
        kind = failure.cause.type if isinstance(failure.cause, ApplicationError) else None
        return _FAILED_AS.get(kind or "", f"another failure ({kind})")
    return str(summary.status)


async def retention(client: Client) -> timedelta:
    """How long Temporal keeps a closed workflow."""
    request = DescribeNamespaceRequest(namespace=client.namespace)
    answer = await client.workflow_service.describe_namespace(request, timeout=CALL)
    return answer.config.workflow_execution_retention_ttl.ToTimedelta()


def _execution(one: WorkflowExecution) -> Execution:
    assert one.status is not None
    shown = one.typed_search_attributes.get(TASK_STATUS)
    return Execution(one.id.removeprefix(_PREFIX), one.run_id, one.status, shown, one.close_time)

"""The view of workflows that the reconciler and the leader work with, and the replacement of stuck runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecution, WorkflowExecutionStatus
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.service import RPCError, RPCStatusCode

from infra.settings import Settings
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway, node_workflow_id
from infra.temporal.reachability import CALL
from infra.temporal.task_workflows import task_workflow_id
from workflows.messages import GpuHealthState

log = logging.getLogger(__name__)

TASK, NODE = "TaskWorkflow", "GpuHealthWorkflow"
PROBLEMS = SearchAttributeKey.for_keyword_list("TemporalReportedProblems")
"""The server sets it on a workflow whose workflow task fails again and again, and unsets it once one succeeds."""
WITH_PROBLEMS = f"{PROBLEMS.name} IN ('category=WorkflowTaskFailed', 'category=WorkflowTaskTimedOut')"
"""`IS NOT NULL` would read all open workflows in any database; SQLite reads them all the same."""
NODES = f"WorkflowType = '{NODE}' AND WorkflowId >= 'gpu-' AND WorkflowId < 'gpv'"
"""The ids spare SQLite the open workflows of tasks. No collation puts `gpu-…` past `gpv`."""
_CAUSE = "cause=WorkflowTaskFailedCause"
PAGE = 1000
"""Workflows on one page of a list: the most that the server gives."""
STUCK = "stuck: its workflow task failed again and again; a new run goes on with what is in the database"


class RunStatus(Enum):
    """The state of the last run of a task's workflow."""

    RUNNING = auto()
    COMPLETED = auto()  # as its task; runs of the previous version also where their task has failed
    FAILED = auto()  # as its task
    CANCELED = auto()  # as its task, or by a person who has reached only an earlier version
    CUT_OFF = auto()  # terminated or timed out: it says nothing about the task
    ABSENT = auto()  # never started, or forgotten by Temporal


_RUN_STATUS: dict[WorkflowExecutionStatus | None, RunStatus] = {
    WorkflowExecutionStatus.RUNNING: RunStatus.RUNNING,
    WorkflowExecutionStatus.COMPLETED: RunStatus.COMPLETED,
    WorkflowExecutionStatus.FAILED: RunStatus.FAILED,
    WorkflowExecutionStatus.CANCELED: RunStatus.CANCELED,
}


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


class OpenWorkflows:
    """Reads through the gateway's client. Every call raises TemporalAway."""

    def __init__(self, temporal: TemporalGateway, settings: Settings) -> None:
        self._temporal = temporal
        self._settings = settings

    async def run_status(self, task_id: str) -> RunStatus:
        """The state of the last run of a task's workflow."""
        handle = self._temporal.client.get_workflow_handle(task_workflow_id(task_id))
        try:
            async with self._temporal.reaching():
                found = await handle.describe(rpc_timeout=CALL)
        except NoSuchWorkflow:
            return RunStatus.ABSENT
        return _RUN_STATUS.get(found.status, RunStatus.CUT_OFF)

    async def is_idle(self, task_id: str) -> bool:
        """Whether the task's workflow runs and has nothing to do. Raises NoSuchWorkflow."""
        handle = self._temporal.client.get_workflow_handle(task_workflow_id(task_id))
        async with self._temporal.reaching():
            found = await handle.describe(rpc_timeout=CALL)
        pending = found.raw_description
        is_busy = pending.HasField("pending_workflow_task") or bool(pending.pending_activities)
        return found.status is WorkflowExecutionStatus.RUNNING and not is_busy

    async def of_tasks(self, before: datetime | None, limit: int) -> list[OpenTask]:
        """Tasks whose workflow is open and was started `before`, the latest first."""
        query = f"WorkflowType = '{TASK}'" + (f" AND StartTime < '{before.isoformat()}'" if before else "")
        listed = await self._listed(query, limit)
        return [OpenTask(one.id.removeprefix(task_workflow_id("")), one.start_time) for one in listed]

    async def of_nodes(self) -> set[str]:
        """Nodes whose workflow is open. The list may lag by a second."""
        listed = await self._listed(NODES)
        return {one.id.removeprefix(node_workflow_id("")) for one in listed}

    async def stuck(self, limit: int) -> list[StuckRun]:
        """Runs that can't go on; none if the server does not support the query."""
        try:
            return [StuckRun.of(one) for one in await self._listed(WITH_PROBLEMS, limit)]
        except TemporalAway as error:
            cause = error.__cause__
            if not isinstance(cause, RPCError) or cause.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            log.debug("this server does not list stuck workflows: %s", error)
            return []

    async def _listed(self, query: str, limit: int | None = None) -> list[WorkflowExecution]:
        """Open workflows of ours, the latest first; all of them unless there is a limit."""
        ours = f"ExecutionStatus = 'Running' AND TaskQueue = '{self._settings.task_queue}' AND {query}"
        async with self._temporal.reaching():
            listed = self._temporal.client.list_workflows(ours, limit=limit, page_size=limit or PAGE)
            return [one async for one in listed]

    async def terminate(self, run: StuckRun) -> None:
        """End a run that can't go on. Raises NoSuchWorkflow."""
        handle = self._temporal.client.get_workflow_handle(run.workflow_id, run_id=run.run_id)
        async with self._temporal.reaching():
            await handle.terminate(reason=STUCK, rpc_timeout=CALL)

    async def run_node_again(self, run: StuckRun) -> None:
        """Start a node's workflow in place of a run that has ended.

        The new run looks at the node's row at once, and gets the signals that the old one did not handle: a person's
        command is in no row yet.
        """
        gpu_id = run.workflow_id.removeprefix(node_workflow_id(""))
        client = self._temporal.untraced
        async with self._temporal.reaching():
            ended = client.get_workflow_handle(run.workflow_id, run_id=run.run_id)
            unheard = _unheard((await ended.fetch_history(rpc_timeout=CALL)).events)
        state = GpuHealthState(gpu_id, self._settings.heartbeat_timeout, pending=["run anew"])
        await self._temporal.start_node(state)
        begun = client.get_workflow_handle(run.workflow_id)
        for name, inputs in unheard:
            async with self._temporal.reaching():
                await begun.signal(name, args=inputs, rpc_timeout=CALL)


def _unheard(events: Sequence[HistoryEvent]) -> list[tuple[str, list[RawValue]]]:
    """Signals after the last successful workflow task, as they were sent."""
    signals: list[tuple[str, list[RawValue]]] = []
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            signals = []
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            sent = event.workflow_execution_signaled_event_attributes
            signals.append((sent.signal_name, [RawValue(payload) for payload in sent.input.payloads]))
    return signals

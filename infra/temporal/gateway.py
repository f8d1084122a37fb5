"""What we ask of Temporal, and every name that it knows us by."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from infra import telemetry
from infra.settings import Settings
from infra.temporal import monitor_schedule, open_workflows, search_attributes
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.notifications import Granted, Notifications
from infra.temporal.notifier import Notifier
from infra.temporal.open_workflows import OpenTask, StuckRun
from infra.temporal.reachability import CALL, Reachability
from workflows.gpu_health import GpuHealthWorkflow
from workflows.messages import GpuHealthState, NodeSignal, TaskInput
from workflows.monitor import MonitorWorkflow
from workflows.task import APP, GPU_ID, TASK_STATUS, TASK_TYPE, USER_ID, WAITING, TaskWorkflow

log = logging.getLogger(__name__)

WORKFLOWS = [TaskWorkflow, GpuHealthWorkflow, MonitorWorkflow]
UNTIL_ITS_GRANT = timedelta(days=365)
"""The delay of a workflow that begins with its grant. A run that begins without one only waits for it."""
PAGE = 1000
"""Workflows on one page of a list: the most that the server gives."""


class Standing(Enum):
    """How a task's workflow stands."""

    RUNNING = auto()
    COMPLETED = auto()  # as its task; runs of the version before also where their task has failed
    FAILED = auto()  # as its task
    CUT_OFF = auto()  # terminated, canceled or timed out: it says nothing about the task
    ABSENT = auto()  # never started, or forgotten by Temporal


_STANDING: dict[WorkflowExecutionStatus | None, Standing] = {
    WorkflowExecutionStatus.RUNNING: Standing.RUNNING,
    WorkflowExecutionStatus.COMPLETED: Standing.COMPLETED,
    WorkflowExecutionStatus.FAILED: Standing.FAILED,
}


STUCK = "stuck: its workflow task failed again and again; a new run goes on with what stands in the database"


def task_workflow_id(task_id: str) -> str:
    """The id of a task's workflow (DESIGN, Create)."""
    return f"task-{task_id}"


def node_workflow_id(gpu_id: str) -> str:
    """The id of a node's workflow."""
    return f"gpu-{gpu_id}"


def _put_off(task: TaskInput) -> dict[str, Any]:
    """How a workflow is started that begins with its grant, and what the Web UI shows of it until then."""
    return {"start_delay": UNTIL_ITS_GRANT, "static_details": WAITING.format(task_id=task.task_id)}


class TemporalGateway:
    """What the rest of the program asks of Temporal."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        config = client.config()
        config["interceptors"] = []
        self._untraced = Client(**config)
        self._settings = settings
        self._reachability = Reachability(client)
        self._reaching = self._reachability.reaching
        self._notifier = Notifier(self)

    @property
    def away(self) -> bool:
        """Whether it has not answered lately."""
        return self._reachability.away

    async def start_task(self, task: TaskInput, traceparent: str | None = None, *, again: bool = False) -> None:
        """Start the task's workflow, once, however often this is called. Raises TemporalAway.

        `again`: also where a run of it has ended, though its row says that the task has not. Nothing else begins
        another run. It joins the trace of `traceparent`, or else that of the caller. If the task waits for a slot its
        first step comes with the grant.
        """
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else WorkflowIDReusePolicy.REJECT_DUPLICATE
        put_off = _put_off(task) if task.waits else {}
        await self._start(task, traceparent, id_reuse_policy=reuse, **put_off)

    async def _start(self, task: TaskInput, traceparent: str | None, **options: Any) -> None:
        attributes = TypedSearchAttributes(
            [
                SearchAttributePair(TASK_STATUS, "QUEUED"),
                SearchAttributePair(TASK_TYPE, task.task_type),
                SearchAttributePair(USER_ID, task.user_id),
                SearchAttributePair(APP, task.app),
            ]
        )
        try:
            async with self._reaching():
                with telemetry.joined(traceparent):
                    await self.client.start_workflow(
                        TaskWorkflow.run,
                        task,
                        id=task_workflow_id(task.task_id),
                        task_queue=self._settings.task_queue,
                        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                        search_attributes=attributes,
                        static_summary=f"type {task.task_type}, {task.app[:50]}, priority {task.priority}",
                        rpc_timeout=CALL,
                        **options,
                    )
        except WorkflowAlreadyStartedError:
            log.debug("%s has run already", task.task_id)

    async def standing(self, task_id: str) -> Standing:
        """How the last run of the task's workflow stands. Raises TemporalAway."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        try:
            async with self._reaching():
                found = await handle.describe(rpc_timeout=CALL)
        except NoSuchWorkflow:
            return Standing.ABSENT
        return _STANDING.get(found.status, Standing.CUT_OFF)

    async def is_idle(self, task_id: str) -> bool:
        """Whether the task's workflow runs and has nothing to do. Raises TemporalAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        async with self._reaching():
            found = await handle.describe(rpc_timeout=CALL)
        pending = found.raw_description
        is_busy = pending.HasField("pending_workflow_task") or bool(pending.pending_activities)
        return found.status is WorkflowExecutionStatus.RUNNING and not is_busy

    async def open_tasks(self, before: datetime | None, limit: int) -> list[OpenTask]:
        """Tasks whose workflow is open and was started `before`, the latest first. Raises TemporalAway."""
        listed = await self._listed(open_workflows.of_tasks(before), limit)
        return [OpenTask(one.id.removeprefix(task_workflow_id("")), one.start_time) for one in listed]

    async def open_nodes(self) -> set[str]:
        """Nodes whose workflow is open. The list may lag behind by a second. Raises TemporalAway."""
        return {one.id.removeprefix(node_workflow_id("")) for one in await self._listed(open_workflows.OF_NODES)}

    async def stuck(self, limit: int) -> list[StuckRun]:
        """Runs of ours that can't go on; none where the server does not tell. Raises TemporalAway."""
        try:
            return [StuckRun.of(one) for one in await self._listed(open_workflows.WITH_PROBLEMS, limit)]
        except TemporalAway as error:
            if (
                not isinstance(error.__cause__, RPCError)
                or error.__cause__.status is not RPCStatusCode.INVALID_ARGUMENT
            ):
                raise
            log.debug("this server does not tell which workflows are stuck: %s", error)
            return []

    async def _listed(self, query: str, limit: int | None = None) -> list[WorkflowExecution]:
        """Open workflows of ours, the latest first; all of them unless there is a limit."""
        ours = f"ExecutionStatus = 'Running' AND TaskQueue = '{self._settings.task_queue}' AND {query}"
        async with self._reaching():
            return [one async for one in self.client.list_workflows(ours, limit=limit, page_size=limit or PAGE)]

    async def terminate(self, run: StuckRun) -> None:
        """End a run that can't go on. Raises TemporalAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(run.workflow_id, run_id=run.run_id)
        async with self._reaching():
            await handle.terminate(reason=STUCK, rpc_timeout=CALL)

    async def run_node_anew(self, run: StuckRun) -> None:
        """Start a node's workflow in place of a run that has ended. Raises TemporalAway.

        It looks at the node's row at once, and hears what the other could not hear any more: a person's command is in
        no row yet.
        """
        gpu_id = run.workflow_id.removeprefix(node_workflow_id(""))
        async with self._reaching():
            ended = self._untraced.get_workflow_handle(run.workflow_id, run_id=run.run_id)
            unheard = open_workflows.unheard((await ended.fetch_history(rpc_timeout=CALL)).events)
        await self._start_node(GpuHealthState(gpu_id, self._settings.heartbeat_timeout, pending=["run anew"]))
        begun = self._untraced.get_workflow_handle(run.workflow_id)
        for name, inputs in unheard:
            async with self._reaching():
                await begun.signal(name, args=inputs, rpc_timeout=CALL)

    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None:
        """Signal the node's workflow, starting it where it does not run. Raises TemporalAway.

        Untraced: it lives for months, and all its steps would join the trace of the request that happened to start it.
        """
        state = GpuHealthState(gpu_id, self._settings.heartbeat_timeout, epoch=signal.epoch)
        await self._start_node(state, start_signal=name, start_signal_args=[signal])

    async def _start_node(self, state: GpuHealthState, **options: Any) -> None:
        async with self._reaching():
            await self._untraced.start_workflow(
                GpuHealthWorkflow.run,
                state,
                id=node_workflow_id(state.gpu_id),
                task_queue=self._settings.task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=TypedSearchAttributes([SearchAttributePair(GPU_ID, state.gpu_id)]),
                static_summary=f"node {state.gpu_id}",
                rpc_timeout=CALL,
                **options,
            )

    async def grant(self, one: Granted) -> None:
        """Tell a task that it has a slot, and begin its workflow where it has not begun. Raises TemporalAway.

        Signal-with-start is durable, and the only call that ends the delay of a first step.
        """
        signal = {"start_signal": "granted", "start_signal_args": [one.grant]}
        await self._start(one.task, one.traceparent, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE, **signal)

    async def settled(self, task_id: str, attempt: int) -> None:
        """Tell a task that its attempt is closed. Raises TemporalAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        async with self._reaching():
            await handle.signal(TaskWorkflow.settled, attempt, rpc_timeout=CALL)

    async def end(self, task: TaskInput, attempt: int) -> None:
        """Tell a task's workflow that the task has ended, whatever it waits for. Raises TemporalAway, NoSuchWorkflow.

        Only a signal that may also start it begins one whose first step is put off.
        """
        signal = {"start_signal": "settled", "start_signal_args": [attempt]}
        await self._start(task, None, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE, **signal)
        await self.look(task.task_id)

    async def look(self, task_id: str) -> None:
        """Let a task's workflow look at the row again. Raises TemporalAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        async with self._reaching():
            await handle.signal(TaskWorkflow.look, rpc_timeout=CALL)

    async def deliver(self, notifications: Notifications, *, but: str | None = None) -> None:
        """Tell workflows in the background what a committed transaction has changed for them (`Notifier.send`)."""
        await self._notifier.send(notifications, but=but)

    async def close(self) -> None:
        """Let what is being delivered end."""
        await self._notifier.close()

    async def trigger_monitor(self) -> None:
        """Run the monitor now. Raises TemporalAway; before the first worker has set the schedule up, too."""
        try:
            async with self._reaching():
                await monitor_schedule.trigger(self.client, CALL)
        except NoSuchWorkflow as error:
            raise TemporalAway("the monitor is not set up yet") from error

    async def ping(self) -> None:
        """Raise RPCError or RuntimeError unless Temporal answers."""
        await self._reachability.ping()

    async def set_up(self) -> None:
        """Register what Temporal must know: search attributes and the monitor's schedule. Idempotent."""
        await search_attributes.register(self.client)
        await monitor_schedule.register(self.client, self._settings.task_queue, self._settings.monitor_interval)

"""The Temporal client, and every name that the engine knows us by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import (
    Client,
    Interceptor,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.converter import DataConverter
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from infra import telemetry
from infra.db.wakeups import Wakeups
from infra.settings import Settings
from workflows.gpu_health import GpuHealthWorkflow
from workflows.messages import GpuHealthState, Grant, NodeSignal, TaskInput
from workflows.monitor import MonitorWorkflow
from workflows.task import APP, GPU_ID, TASK_STATUS, TASK_TYPE, USER_ID, TaskWorkflow

log = logging.getLogger(__name__)

DATA_CONVERTER = DataConverter.default
"""The production converter: our messages are plain dataclasses."""

WORKFLOWS = [TaskWorkflow, GpuHealthWorkflow, MonitorWorkflow]
MONITOR = "monitor"
CALL = timedelta(seconds=2)  # a request waits no longer for the engine; the reconciler comes after it


class EngineAway(Exception):
    """Temporal did not answer, or not as it should."""


class NoSuchWorkflow(Exception):
    """No workflow of this id runs."""


@contextmanager
def _reaching() -> Iterator[None]:
    """What the client raises, as our two errors; a lazy client that can't connect raises RuntimeError."""
    try:
        yield
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NoSuchWorkflow(error.message) from error
        raise EngineAway(f"{error.status.name}: {error.message}") from error
    except RuntimeError as error:
        raise EngineAway(str(error)) from error


def task_workflow_id(task_id: str) -> str:
    """The id of a task's workflow (DESIGN, Create)."""
    return f"task-{task_id}"


def node_workflow_id(gpu_id: str) -> str:
    """The id of a node's workflow."""
    return f"gpu-{gpu_id}"


async def connect(settings: Settings, *, lazy: bool = True) -> Client:
    """A client; a lazy one connects on first use, so that a program starts while the engine is away."""
    if settings.temporal_address is None:
        raise SystemExit("ORCHESTRATOR_TEMPORAL_ADDRESS is not set (`gpu-orchestrator run` sets it)")
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        data_converter=DATA_CONVERTER,
        interceptors=interceptors(),
        lazy=lazy,
    )


def interceptors() -> list[Interceptor]:
    """Temporal's own tracing, for the client and the workers made with it; nothing where traces are not exported."""
    if not telemetry.is_on():
        return []
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor(telemetry.tracer())]


class Engine:
    """What the rest of the program asks of Temporal."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        config = client.config()
        config["interceptors"] = []
        self._untraced = Client(**config)
        self._settings = settings

    async def start_task(self, task: TaskInput, traceparent: str | None = None) -> None:
        """Start the task's workflow, once, however often this is called. Raises EngineAway.

        It joins the trace of `traceparent`, or else that of the caller.
        """
        attributes = TypedSearchAttributes(
            [
                SearchAttributePair(TASK_STATUS, "QUEUED"),
                SearchAttributePair(TASK_TYPE, task.task_type),
                SearchAttributePair(USER_ID, task.user_id),
                SearchAttributePair(APP, task.app),
            ]
        )
        try:
            with telemetry.joined(traceparent), _reaching():
                await self.client.start_workflow(
                    TaskWorkflow.run,
                    task,
                    id=task_workflow_id(task.task_id),
                    task_queue=self._settings.task_queue,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    search_attributes=attributes,
                    static_summary=f"type {task.task_type}, {task.app[:50]}, priority {task.priority}",
                    rpc_timeout=CALL,
                )
        except WorkflowAlreadyStartedError:
            log.debug("%s has run already", task.task_id)

    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None:
        """Signal the node's workflow, starting it where it does not run. Raises EngineAway.

        Untraced: it lives for months, and all its steps would join the trace of the request that happened to start it.
        """
        with _reaching():
            await self._untraced.start_workflow(
                GpuHealthWorkflow.run,
                GpuHealthState(gpu_id, self._settings.heartbeat_timeout, epoch=signal.epoch),
                id=node_workflow_id(gpu_id),
                task_queue=self._settings.task_queue,
                start_signal=name,
                start_signal_args=[signal],
                search_attributes=TypedSearchAttributes([SearchAttributePair(GPU_ID, gpu_id)]),
                static_summary=f"node {gpu_id}",
                rpc_timeout=CALL,
            )

    async def grant(self, task_id: str, grant: Grant) -> None:
        """Tell a waiting task that it has a slot. Raises EngineAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        with _reaching():
            await handle.signal(TaskWorkflow.granted, grant, rpc_timeout=CALL)

    async def settled(self, task_id: str, attempt: int) -> None:
        """Tell a task that its attempt is closed. Raises EngineAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        with _reaching():
            await handle.signal(TaskWorkflow.settled, attempt, rpc_timeout=CALL)

    async def look(self, task_id: str) -> None:
        """Let a waiting task look again and say what it waits for. Raises EngineAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        with _reaching():
            await handle.signal(TaskWorkflow.look, rpc_timeout=CALL)

    async def deliver(self, wakeups: Wakeups, *, but: str | None = None) -> None:
        """Send the signals of a committed transaction; one that fails is left to the reconciler.

        Grants go first: a slot stands idle until its new task knows. `but` is a task that knows already.
        """
        await self._send([self.grant(one.task_id, one.grant) for one in wakeups.granted])
        calls = [self.settled(task_id, attempt) for task_id, attempt in wakeups.settled if task_id != but]
        calls += [
            self.signal_node(gpu_id, name, NodeSignal(epoch, reason)) for gpu_id, name, epoch, reason in wakeups.nodes
        ]
        await self._send(calls)

    async def _send(self, calls: list[Coroutine[Any, Any, None]]) -> None:
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, NoSuchWorkflow):
                log.debug("a signal found no workflow: one that starts later looks for itself")
            elif isinstance(outcome, BaseException):
                log.warning("a signal was not delivered, the reconciler will repeat it: %s", outcome)

    async def trigger_monitor(self) -> None:
        """Run the monitor now. Raises EngineAway; before the first worker has set the schedule up, too."""
        try:
            with _reaching():
                await self.client.get_schedule_handle(MONITOR).trigger(
                    overlap=ScheduleOverlapPolicy.BUFFER_ONE, rpc_timeout=CALL
                )
        except NoSuchWorkflow as error:
            raise EngineAway("the monitor is not set up yet") from error

    async def ping(self) -> None:
        """Raise unless the engine answers."""
        await self.client.service_client.check_health(timeout=CALL)

    async def set_up(self) -> None:
        """Register what the engine must know: search attributes and the monitor's schedule. Idempotent."""
        await self._add_search_attributes()
        schedule = Schedule(
            action=ScheduleActionStartWorkflow(MonitorWorkflow.run, id=MONITOR, task_queue=self._settings.task_queue),
            spec=ScheduleSpec(
                intervals=[ScheduleIntervalSpec(every=timedelta(seconds=self._settings.monitor_interval))]
            ),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
        )
        try:
            await self.client.create_schedule(MONITOR, schedule)
        except ScheduleAlreadyRunningError:  # the settings may have changed since
            await self.client.get_schedule_handle(MONITOR).update(lambda _: ScheduleUpdate(schedule))

    async def _add_search_attributes(self) -> None:
        keyword, integer = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD, IndexedValueType.INDEXED_VALUE_TYPE_INT
        wanted = {key.name: keyword for key in (TASK_STATUS, GPU_ID, USER_ID, APP)} | {TASK_TYPE.name: integer}
        for name, kind in wanted.items():
            request = AddSearchAttributesRequest(namespace=self.client.namespace, search_attributes={name: kind})
            try:
                await self.client.operator_service.add_search_attributes(request)
            except RPCError as error:
                if error.status is not RPCStatusCode.ALREADY_EXISTS:
                    raise

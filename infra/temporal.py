"""What we ask of Temporal, and every name that it knows us by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
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

from infra import search_attributes, telemetry
from infra.db.handover import FIRST_LOOK_S
from infra.db.wakeups import Granted, Wakeups
from infra.settings import Settings
from infra.short_circuit import ShortCircuit
from workflows.gpu_health import GpuHealthWorkflow
from workflows.messages import GpuHealthState, Grant, NodeSignal, TaskInput
from workflows.monitor import MonitorWorkflow
from workflows.task import APP, GPU_ID, TASK_STATUS, TASK_TYPE, USER_ID, TaskWorkflow

log = logging.getLogger(__name__)

WORKFLOWS = [TaskWorkflow, GpuHealthWorkflow, MonitorWorkflow]
MONITOR = "monitor"
CALL = timedelta(seconds=2)  # a request waits no longer for the engine; the reconciler comes after it
PAUSE_S, FAILURES = 1.0, 3
"""After so many calls in a row without an answer the engine counts as away, until a ping, one in so many seconds, is
answered."""
HEAD_START_S = 0.012
"""What else is to be told waits so long behind a grant: about as long as the granted task's dispatch takes. On a small
machine one would slow the other down, and an ended task only waits for its last edge."""
NO_ANSWER = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


class EngineAway(Exception):
    """Temporal did not answer, or not as it should."""


class NoSuchWorkflow(Exception):
    """No workflow of this id runs."""


class Standing(Enum):
    """How a task's workflow stands."""

    RUNNING = auto()
    COMPLETED = auto()  # it has returned, with the task's status
    ENDED = auto()  # terminated, canceled, timed out or failed: it says nothing about the task
    ABSENT = auto()  # never started, or forgotten by the engine


def is_away(error: BaseException) -> bool:
    """Whether what the client itself raises means that the engine is away; RuntimeError: it can't connect."""
    return error.status in NO_ANSWER if isinstance(error, RPCError) else isinstance(error, RuntimeError)


def task_workflow_id(task_id: str) -> str:
    """The id of a task's workflow (DESIGN, Create)."""
    return f"task-{task_id}"


def node_workflow_id(gpu_id: str) -> str:
    """The id of a node's workflow."""
    return f"gpu-{gpu_id}"


class Engine:
    """What the rest of the program asks of Temporal."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        config = client.config()
        config["interceptors"] = []
        self._untraced = Client(**config)
        self._settings = settings
        self._circuit = ShortCircuit(pause_s=PAUSE_S, after=FAILURES)
        self._probing: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether it has not answered lately."""
        return self._circuit.is_open

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """What the client raises, as our two errors. Nobody waits for an engine that has not answered lately."""
        if self._circuit.is_open:
            raise EngineAway("it has not answered lately")
        try:
            yield
        except (RPCError, RuntimeError) as error:
            if is_away(error):
                self._missed()
            else:
                self._circuit.answered()
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                raise NoSuchWorkflow(error.message) from error
            raise EngineAway(str(error)) from error
        self._circuit.answered()

    def _missed(self) -> None:
        self._circuit.failed()
        if self._circuit.is_open and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Ask until it answers."""
        while self._circuit.is_open:
            await asyncio.sleep(PAUSE_S)
            with suppress(RPCError, RuntimeError):
                await self.ping()

    async def start_task(self, task: TaskInput, traceparent: str | None = None, *, again: bool = False) -> None:
        """Start the task's workflow, once, however often this is called. Raises EngineAway.

        `again`: also where it has completed, though its row says that the task has not ended. It joins the trace of
        `traceparent`, or else that of the caller. The first step of one that
        `waits` is put off by FIRST_LOOK_S, or until a grant comes.
        """
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
        delay = timedelta(seconds=FIRST_LOOK_S) if task.waits else None
        await self._start(task, traceparent, id_reuse_policy=reuse, start_delay=delay)

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
            with telemetry.joined(traceparent), self._reaching():
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
        """How the last run of the task's workflow stands. Raises EngineAway."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        try:
            with self._reaching():
                status = (await handle.describe(rpc_timeout=CALL)).status
        except NoSuchWorkflow:
            return Standing.ABSENT
        if status is WorkflowExecutionStatus.RUNNING:
            return Standing.RUNNING
        return Standing.COMPLETED if status is WorkflowExecutionStatus.COMPLETED else Standing.ENDED

    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None:
        """Signal the node's workflow, starting it where it does not run. Raises EngineAway.

        Untraced: it lives for months, and all its steps would join the trace of the request that happened to start it.
        """
        with self._reaching():
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

    async def _tell(self, one: Granted) -> None:
        """`grant`. Where the first step may be put off only a signal that may also start the workflow begins it now."""
        if one.delayed is None:
            await self.grant(one.task_id, one.grant)
            return
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
        signal = {"start_signal": "granted", "start_signal_args": [one.grant]}
        await self._start(one.delayed, one.traceparent, id_reuse_policy=reuse, **signal)

    async def grant(self, task_id: str, grant: Grant) -> None:
        """Tell a waiting task that it has a slot. Raises EngineAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        with self._reaching():
            await handle.signal(TaskWorkflow.granted, grant, rpc_timeout=CALL)

    async def settled(self, task_id: str, attempt: int) -> None:
        """Tell a task that its attempt is closed. Raises EngineAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        with self._reaching():
            await handle.signal(TaskWorkflow.settled, attempt, rpc_timeout=CALL)

    async def look(self, task_id: str) -> None:
        """Let a waiting task look again and say what it waits for. Raises EngineAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        with self._reaching():
            await handle.signal(TaskWorkflow.look, rpc_timeout=CALL)

    async def deliver(self, wakeups: Wakeups, *, but: str | None = None) -> None:
        """Send the signals of a committed transaction; one that fails is left to the reconciler.

        Grants go first, and get HEAD_START_S: a slot stands idle until its new task is dispatched. `but` is a task that
        knows already.
        """
        ended = [(task_id, attempt) for task_id, attempt in wakeups.settled if task_id != but]
        await self._send([self._tell(one) for one in wakeups.granted])
        if wakeups.granted and (ended or wakeups.nodes):
            await asyncio.sleep(HEAD_START_S)
        calls = [self.settled(task_id, attempt) for task_id, attempt in ended]
        calls += [
            self.signal_node(gpu_id, name, NodeSignal(epoch, reason)) for gpu_id, name, epoch, reason in wakeups.nodes
        ]
        await self._send(calls)

    async def _send(self, calls: list[Coroutine[Any, Any, None]]) -> None:
        if len(calls) == 1:  # without a task of its own it is under way at once
            await self._tried(calls[0])
        else:
            await asyncio.gather(*map(self._tried, calls))

    async def _tried(self, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except NoSuchWorkflow:
            log.debug("a signal found no workflow: one that starts later looks for itself")
        except Exception as error:  # noqa: BLE001
            log.warning("a signal was not delivered, the reconciler will repeat it: %s", error)

    async def trigger_monitor(self) -> None:
        """Run the monitor now. Raises EngineAway; before the first worker has set the schedule up, too."""
        try:
            with self._reaching():
                await self.client.get_schedule_handle(MONITOR).trigger(
                    overlap=ScheduleOverlapPolicy.BUFFER_ONE, rpc_timeout=CALL
                )
        except NoSuchWorkflow as error:
            raise EngineAway("the monitor is not set up yet") from error

    async def ping(self) -> None:
        """Raise unless the engine answers."""
        await self.client.service_client.check_health(timeout=CALL)
        self._circuit.answered()

    async def set_up(self) -> None:
        """Register what the engine must know: search attributes and the monitor's schedule. Idempotent."""
        await search_attributes.register(self.client)
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

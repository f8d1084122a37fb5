"""The calls that start and notify workflows, the ids of workflows, and the order in which tasks are started."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from infra import telemetry
from infra.settings import Settings
from infra.temporal.access import NoSuchWorkflow
from infra.temporal.notifications import Granted, Notifications
from infra.temporal.notifier import Notifier
from infra.temporal.reachability import CALL, Reachability
from workflows.gpu_health import GpuHealthWorkflow
from workflows.messages import GpuHealthState, NodeSignal, OperationInput, TaskInput, WebhookState
from workflows.operation import OperationWorkflow
from workflows.task import APP, GPU_ID, TASK_STATUS, TASK_TYPE, USER_ID, WAITING, TaskWorkflow
from workflows.webhook import WebhookWorkflow

log = logging.getLogger(__name__)

UNTIL_ITS_GRANT = timedelta(days=365)
"""The delay of a workflow that begins with its grant. A run that begins without one only waits for it."""


def task_workflow_id(task_id: str) -> str:
    """The id of a task's workflow (DESIGN, Create)."""
    return f"task-{task_id}"


def node_workflow_id(gpu_id: str) -> str:
    """The id of a node's workflow."""
    return f"gpu-{gpu_id}"


def operation_workflow_id(operation_id: str) -> str:
    """The id of a bulk operation's workflow."""
    return f"operation-{operation_id}"


def webhook_workflow_id(webhook_id: str) -> str:
    """The id of a webhook's workflow."""
    return f"webhook-{webhook_id}"


class TemporalGateway:
    """Starts and notifies workflows.

    `untraced` is the same client without tracing: a node's workflow lives for months, and all its steps would join the
    trace of the request that happened to start it.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        config = client.config()
        config["interceptors"] = []
        self.untraced = Client(**config)
        self._settings = settings
        self._reachability = Reachability(client)
        self.reaching = self._reachability.reaching
        self._notifier = Notifier(self)

    @property
    def away(self) -> bool:
        """Whether it has not answered lately."""
        return self._reachability.away

    async def start_task(self, task: TaskInput, traceparent: str | None = None, *, again: bool = False) -> None:
        """Start the task's workflow, once, however often this is called. Raises TemporalAway.

        `again` allows another run after the last one has ended. The workflow joins the trace of `traceparent`, or else
        that of the caller. If the task waits for a slot, the first step is put off until the grant.
        """
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else WorkflowIDReusePolicy.REJECT_DUPLICATE
        details = WAITING.format(task_id=task.task_id)
        put_off = {"start_delay": UNTIL_ITS_GRANT, "static_details": details} if task.waits else {}
        await self._start(task, traceparent, id_reuse_policy=reuse, **put_off)

    async def _signal_with_start(self, task: TaskInput, traceparent: str | None, name: str, value: Any) -> None:
        """Signal the task's workflow, and begin it where it has not begun: only this call ends the start delay."""
        signal = {"start_signal": name, "start_signal_args": [value]}
        await self._start(task, traceparent, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE, **signal)

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
            async with self.reaching():
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

    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None:
        """Signal the node's workflow, and start it if it does not run. Raises TemporalAway."""
        state = GpuHealthState(gpu_id, self._settings.heartbeat_timeout, epoch=signal.epoch)
        await self.start_node(state, start_signal=name, start_signal_args=[signal])

    async def start_node(self, state: GpuHealthState, **options: Any) -> None:
        """Start the node's workflow if it does not run. Raises TemporalAway."""
        async with self.reaching():
            await self.untraced.start_workflow(
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

    async def start_operation(self, operation_id: str) -> None:
        """Start the workflow of a bulk operation if it does not run. Raises TemporalAway."""
        async with self.reaching():
            await self.untraced.start_workflow(
                OperationWorkflow.run,
                OperationInput(operation_id),
                id=operation_workflow_id(operation_id),
                task_queue=self._settings.task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary=f"operation {operation_id}",
                rpc_timeout=CALL,
            )

    async def attend_webhook(self, webhook_id: str) -> None:
        """Tell a webhook's workflow that something is due, and start it if it does not run. Raises TemporalAway."""
        async with self.reaching():
            await self.untraced.start_workflow(
                WebhookWorkflow.run,
                WebhookState(webhook_id),
                id=webhook_workflow_id(webhook_id),
                task_queue=self._settings.task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary=f"webhook {webhook_id}",
                start_signal="due",
                rpc_timeout=CALL,
            )

    async def end_webhook(self, webhook_id: str) -> None:
        """Tell the workflow of a deleted webhook to look at the row, though it is paused. Raises TemporalAway."""
        with suppress(NoSuchWorkflow):
            async with self.reaching():
                handle = self.client.get_workflow_handle(webhook_workflow_id(webhook_id))
                await handle.signal(WebhookWorkflow.resume, rpc_timeout=CALL)

    async def grant(self, one: Granted) -> None:
        """Tell a task that it has a slot, and begin its workflow if it has not begun. Raises TemporalAway."""
        await self._signal_with_start(one.task, one.traceparent, "granted", one.grant)

    async def settled(self, task_id: str, attempt: int) -> None:
        """Signal a task's workflow that an attempt is closed. Raises TemporalAway, NoSuchWorkflow."""
        handle = self.client.get_workflow_handle(task_workflow_id(task_id))
        async with self.reaching():
            await handle.signal(TaskWorkflow.settled, attempt, rpc_timeout=CALL)

    async def end(self, task_id: str) -> None:
        """Cancel the workflow of a task that has ended, in any state. Raises TemporalAway, NoSuchWorkflow.

        A request to cancel begins also a run whose first step is put off. The run ends as the row says, Canceled only
        if the task was cancelled.
        """
        async with self.reaching():
            await self.client.get_workflow_handle(task_workflow_id(task_id)).cancel(rpc_timeout=CALL)

    async def deliver(self, notifications: Notifications, *, but: str | None = None) -> None:
        """Notify workflows of a committed transaction, in the background (`Notifier.send`)."""
        await self._notifier.send(notifications, but=but)

    async def close(self) -> None:
        """Give notifications in flight a moment to arrive."""
        await self._notifier.close()

    async def ping(self) -> None:
        """Raise RPCError or RuntimeError unless Temporal answers."""
        await self._reachability.ping()


class Starts(Protocol):
    """The call to Temporal that a start needs."""

    async def start_task(self, task: TaskInput, traceparent: str | None = None) -> None: ...


class Starter:
    """Starts workflows; `started` gets the id of each task whose start was confirmed.

    A start that fails is left to the reconciler: its entry stays in the outbox.
    """

    def __init__(self, gateway: Starts, started: Callable[[str], None]) -> None:
        self._gateway = gateway
        self._started = started
        self._later: deque[tuple[TaskInput, str | None]] = deque()
        self._starting: asyncio.Task[None] | None = None

    async def start(self, task: TaskInput, traceparent: str | None = None) -> None:
        """Start a workflow now."""
        try:
            await self._gateway.start_task(task, traceparent)
        except Exception as error:  # noqa: BLE001  the row is committed: nothing is lost
            log.warning("%s will be started by the reconciler: %s", task.task_id, error)
        else:
            self._started(task.task_id)

    def start_later(self, task: TaskInput, traceparent: str | None) -> None:
        """Start a workflow in the background, in order and one at a time: that leaves room for what is urgent."""
        self._later.append((task, traceparent))
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start_all())

    async def _start_all(self) -> None:
        while self._later:
            await self.start(*self._later.popleft())

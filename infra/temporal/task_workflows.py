"""The calls that start and notify the workflows of tasks, and the order in which they are started."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from infra import telemetry
from infra.temporal.reachability import CALL, TemporalCalls
from workflows.messages import TaskInput
from workflows.notifications import Granted
from workflows.shown import APP, TASK_STATUS, TASK_TYPE, USER_ID, WAITING
from workflows.task import TaskWorkflow

log = logging.getLogger(__name__)

UNTIL_ITS_GRANT = timedelta(days=365)
"""The delay of a workflow that begins with its grant. A run that begins without one only waits for it."""


def task_workflow_id(task_id: str) -> str:
    """The id of a task's workflow (DESIGN, Create)."""
    return f"task-{task_id}"


class TaskWorkflows(TemporalCalls):
    """Starts and notifies the workflows of tasks."""

    async def start_task(self, task: TaskInput, traceparent: str | None = None, *, again: bool = False) -> None:
        """Start the task's workflow, once, however often this is called. Raises TemporalAway.

        `again` allows another run after the last one has ended. The workflow joins the trace of `traceparent`, or that
        of the caller. If the task waits for a slot, the first step is put off until the grant.
        """
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE if again else WorkflowIDReusePolicy.REJECT_DUPLICATE
        details = WAITING.format(task_id=task.task_id)
        put_off = {"start_delay": UNTIL_ITS_GRANT, "static_details": details} if task.waits else {}
        await self._start(task, traceparent, id_reuse_policy=reuse, **put_off)

    async def grant(self, one: Granted) -> None:
        """Signal a task that it has a slot, and begin its workflow if it has not begun. Raises TemporalAway.

        Only a signal with start ends the start delay.
        """
        signal = {"start_signal": "granted", "start_signal_args": [one.grant]}
        await self._start(one.task, one.traceparent, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE, **signal)

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

    async def _start(self, task: TaskInput, traceparent: str | None, **options: Any) -> None:
        attributes: list[SearchAttributePair[Any]] = [
            SearchAttributePair(TASK_STATUS, "QUEUED"),
            SearchAttributePair(TASK_TYPE, task.task_type),
            SearchAttributePair(USER_ID, task.user_id),
            SearchAttributePair(APP, task.app),
        ]
        try:
            with telemetry.joined(traceparent):
                await self._begin(
                    self.client,
                    TaskWorkflow.run,
                    task,
                    task_workflow_id(task.task_id),
                    search_attributes=TypedSearchAttributes(attributes),
                    static_summary=f"type {task.task_type}, {task.app[:50]}, priority {task.priority}",
                    **options,
                )
        except WorkflowAlreadyStartedError:
            log.debug("%s has run already", task.task_id)


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

    async def start(self, task: TaskInput, traceparent: str | None) -> None:
        """Start a workflow: now, or in the background if the task waits anyway, which leaves room for what is urgent.

        Those in the background join the trace of `traceparent`, and are started in order and one at a time.
        """
        if not task.waits:
            return await self._start(task)
        self._later.append((task, traceparent))
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start_all())

    async def _start_all(self) -> None:
        while self._later:
            await self._start(*self._later.popleft())

    async def _start(self, task: TaskInput, traceparent: str | None = None) -> None:
        try:
            await self._gateway.start_task(task, traceparent)
        except Exception as error:  # noqa: BLE001  the row is committed: nothing is lost
            log.warning("%s will be started by the reconciler: %s", task.task_id, error)
        else:
            self._started(task.task_id)

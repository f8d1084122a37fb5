"""Starting the workflows of new tasks."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from workflows.messages import TaskInput

log = logging.getLogger(__name__)


class Gateway(Protocol):
    """The call to Temporal that a start needs."""

    async def start_task(self, task: TaskInput, traceparent: str | None = None) -> None: ...


class Starter:
    """Starts workflows; `started` gets the id of each task whose start was confirmed.

    A start that fails is left to the reconciler: its entry stays in the outbox.
    """

    def __init__(self, gateway: Gateway, started: Callable[[str], None]) -> None:
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

"""Notifying workflows of what a committed transaction has changed: in the background, the most urgent first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from infra.db.notifications import Granted, Notifications
from infra.temporal_access import NoSuchWorkflow
from workflows.messages import NodeSignal

log = logging.getLogger(__name__)

HEAD_START_S = 0.015
"""Seconds that other notifications wait behind a grant, about the time that the granted task's dispatch takes. On a
small machine one would slow the other down, and an ended task only waits for its last transition."""
LAST_WORDS_S = 1.0

Call = Coroutine[Any, Any, None]


class Teller(Protocol):
    """What is needed of Temporal here. Each call may raise NoSuchWorkflow, EngineAway."""

    async def tell(self, one: Granted) -> None: ...
    async def settled(self, task_id: str, attempt: int) -> None: ...
    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None: ...


class Sender:
    """Sends notifications. The reconciler repeats one that fails."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._under_way: set[asyncio.Task[None]] = set()

    async def send(self, notifications: Notifications, *, but: str | None = None) -> None:
        """Send them without keeping the caller waiting: the first ones are under way when this returns.

        Grants go first, and get HEAD_START_S: a slot is idle until its new task is dispatched. The task `but` is left
        out: it knows already.
        """
        teller = self._teller
        rest = [teller.settled(task_id, attempt) for task_id, attempt in notifications.settled if task_id != but]
        rest += [teller.signal_node(gpu_id, name, NodeSignal(epoch)) for gpu_id, name, epoch in notifications.nodes]
        for one in notifications.grants:
            self._begin(_tried(teller.tell(one)))
        if notifications.grants and rest:
            self._begin(_after_a_head_start(rest))
        else:
            for call in rest:
                self._begin(_tried(call))
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Give calls in flight a moment to end."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LAST_WORDS_S)

    def _begin(self, call: Call) -> None:
        task = asyncio.create_task(call)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


async def _after_a_head_start(calls: list[Call]) -> None:
    await asyncio.sleep(HEAD_START_S)
    await asyncio.gather(*map(_tried, calls))


async def _tried(call: Call) -> None:
    try:
        await call
    except NoSuchWorkflow:
        log.debug("a signal found no workflow: one that starts later looks for itself")
    except Exception as error:  # noqa: BLE001
        log.warning("a signal was not delivered, the reconciler will repeat it: %s", error)

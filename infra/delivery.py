"""Telling workflows what a committed transaction has changed for them: in the background, the most urgent first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from infra.db.wakeups import Granted, Wakeups
from infra.temporal_access import NoSuchWorkflow
from workflows.messages import NodeSignal

log = logging.getLogger(__name__)

HEAD_START_S = 0.015
"""What else is to be told waits so long behind a grant: about as long as the granted task's dispatch takes. On a small
machine one would slow the other down, and an ended task only waits for its last edge."""
LAST_WORDS_S = 1.0


class Teller(Protocol):
    """What of the engine is needed here; each may raise NoSuchWorkflow, EngineAway."""

    async def tell(self, one: Granted) -> None: ...
    async def settled(self, task_id: str, attempt: int) -> None: ...
    async def signal_node(self, gpu_id: str, name: str, signal: NodeSignal) -> None: ...


class Delivery:
    """Sends wakeups; one that fails is left to the reconciler."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._under_way: set[asyncio.Task[None]] = set()

    async def send(self, wakeups: Wakeups, *, but: str | None = None) -> None:
        """Send them without keeping the caller waiting: the first is under way when this returns.

        Grants go first, and get HEAD_START_S: a slot stands idle until its new task is dispatched. `but` is a task that
        knows already.
        """
        ended = [(task_id, attempt) for task_id, attempt in wakeups.settled if task_id != but]
        for one in wakeups.granted:
            self._begin(self._teller.tell(one))
        if ended or wakeups.nodes:
            self._begin(self._rest(ended, wakeups.nodes, HEAD_START_S if wakeups.granted else 0.0))
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Let what is under way end, for a moment."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LAST_WORDS_S)

    def _begin(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_tried(call))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _rest(self, ended: list[tuple[str, int]], nodes: list[tuple[str, str, int, str]], after_s: float) -> None:
        await asyncio.sleep(after_s)
        for task_id, attempt in ended:
            self._begin(self._teller.settled(task_id, attempt))
        for gpu_id, name, epoch, reason in nodes:
            self._begin(self._teller.signal_node(gpu_id, name, NodeSignal(epoch, reason)))


async def _tried(call: Coroutine[Any, Any, None]) -> None:
    try:
        await call
    except NoSuchWorkflow:
        log.debug("a signal found no workflow: one that starts later looks for itself")
    except Exception as error:  # noqa: BLE001
        log.warning("a signal was not delivered, the reconciler will repeat it: %s", error)

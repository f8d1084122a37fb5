"""Handler processes started ahead of time: one per slot, so that an attempt does not wait for imports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from workers.node.child import Launcher
from workers.node.handler_run import HandlerProcess
from workers.node.slots import Slot

log = logging.getLogger(__name__)


class Spares:
    """Keeps at most one waiting process per slot, for the handler that the slot ran last.

    A spare is started when the slot's previous process has ended, not before: a module that loads a model when it
    is imported never has it on the device twice.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._waiting: dict[Slot, HandlerProcess] = {}
        self._tasks: dict[Slot, asyncio.Task[Any]] = {}  # starting or ending a slot's spare
        self._closed = False

    async def fill(self, slots: Sequence[Slot], targets: Sequence[str]) -> None:
        """Import every target once, one after the other, then start a spare on each slot; raises SetupFailed."""
        for target in reversed(targets):  # so that the first one stays
            await self._discard(slots[0])
            self._waiting[slots[0]] = process = await self._start(slots[0], target)
            await process.ready()
        for number, slot in enumerate(slots[1:] if targets else (), start=1):
            self.refill(slot, targets[number % len(targets)])

    async def take(self, slot: Slot, target: str) -> HandlerProcess:
        """The slot's spare where it is for this target and alive, otherwise a new process; raises OSError."""
        await self._settled(slot)
        spare = self._waiting.get(slot)
        if spare and spare.target == target and spare.usable:
            return self._waiting.pop(slot)
        await self._discard(slot)
        return await self._start(slot, target)

    def refill(self, slot: Slot, target: str) -> None:
        """Start the slot's next spare in the background."""
        if not self._closed:
            self._tasks[slot] = asyncio.create_task(self._refill(slot, target))

    async def close(self) -> None:
        """End all spares, and start no more."""
        self._closed = True
        for slot in list(self._tasks):
            await self._settled(slot)
        await asyncio.gather(*(self._discard(slot) for slot in list(self._waiting)))

    async def _refill(self, slot: Slot, target: str) -> None:
        try:
            self._waiting[slot] = await self._start(slot, target)
        except OSError as error:
            log.warning("no spare process for %s: %s", target, error)

    async def _discard(self, slot: Slot) -> None:
        if spare := self._waiting.pop(slot, None):
            self._tasks[slot] = asyncio.create_task(spare.close())
            await self._settled(slot)

    async def _settled(self, slot: Slot) -> None:
        """Wait for the slot's task; being cancelled here does not cancel it."""
        if task := self._tasks.get(slot):
            await asyncio.wait([task])

    async def _start(self, slot: Slot, target: str) -> HandlerProcess:
        return await HandlerProcess.start(self._launcher, target, slot)

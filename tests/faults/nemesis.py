"""Kills and pauses the parts as the plan says, and heals everything in the end."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from tests.faults.plan import Fault
from workers.stack.part import Part


@dataclass
class Nemesis:
    """`moments` are the wall-clock times (s) at which a part was killed, or went on after a pause."""

    parts: dict[str, Part]
    kills: int = 0
    pauses: int = 0
    moments: list[float] = field(default_factory=list)
    _paused: set[asyncio.Task[None]] = field(default_factory=set)
    _stopped: list[psutil.Process] = field(default_factory=list)

    async def work(self, faults: list[Fault]) -> None:
        """Returns once the last fault is done; a pause may still last."""
        clock = asyncio.get_running_loop().time
        began = clock()
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at_s - clock()))
            if fault.pause_s is None:
                self._kill(fault)
            else:
                task = asyncio.create_task(self._pause(fault, fault.pause_s))
                self._paused.add(task)
                task.add_done_callback(self._paused.discard)

    async def heal(self, within: float) -> None:
        """Let everything go on, and wait until all parts are ready."""
        for task in self._paused:
            task.cancel()
        await asyncio.gather(*self._paused, return_exceptions=True)
        _signal(self._stopped, signal.SIGCONT)
        for part in self.parts.values():
            await part.until_ready(within)
        self.moments.append(time.time())

    def _kill(self, fault: Fault) -> None:
        """A part that is between two runs has been killed enough."""
        part = self.parts[fault.part]
        if part.pid is not None:
            part.kill()
            self.kills += 1
            self.moments.append(time.time())

    async def _pause(self, fault: Fault, seconds: float) -> None:
        """The part with all that it started, as if its machine stood still."""
        tree = _tree(self.parts[fault.part].pid)
        if not tree:
            return
        self.pauses += 1
        self._stopped += tree
        _signal(tree, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            _signal(tree, signal.SIGCONT)
            self._stopped = [one for one in self._stopped if one not in tree]
            self.moments.append(time.time())


def _tree(pid: int | None) -> list[psutil.Process]:
    if pid is None:
        return []
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)

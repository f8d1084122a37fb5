"""The agent's side of a `--handler` process: wait until it is ready, give it one job, hear how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from infra.json import results, strict_json
from infra.json.strict_json import Unfit
from workers.node import handler_child
from workers.node.assignment import Assignment
from workers.node.child import LINE_LIMIT, Child, Launcher
from workers.node.errors import SetupFailed, Stopped
from workers.node.outcome import Outcome, failed, failed_exit, rejected, succeeded
from workers.node.slots import Slot
from workers.node.supervise import GRACE
from workers.waiting import first_of

log = logging.getLogger(__name__)

_PROGRAM = str(Path(handler_child.__file__))
_LAST_WORDS = 20  # lines


class _Message(msgspec.Struct):
    """A message of handler_child.Channel, with one of these fields."""

    ready: bool = False
    setup_error: str | None = None
    progress: int | None = None
    error: str | None = None
    rejected: bool = False
    output: msgspec.Raw = msgspec.Raw()


_MESSAGE = msgspec.json.Decoder(_Message)


class HandlerProcess:
    """A process with one handler imported (or being imported), good for one attempt."""

    def __init__(self, launcher: Launcher, target: str) -> None:
        loop = asyncio.get_running_loop()
        self.target = target
        self._launcher = launcher
        self._child: Child
        self._ready: asyncio.Future[None] = loop.create_future()
        self._decided: asyncio.Future[Outcome] = loop.create_future()
        self._setup_error: str | None = None
        self._progress: Callable[[int], None] = lambda percent: None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)

    @classmethod
    async def start(cls, launcher: Launcher, target: str, slot: Slot) -> HandlerProcess:
        """Spawn it; raises OSError."""
        process = cls(launcher, target)
        argv = [sys.executable, _PROGRAM, target]
        process._child = await launcher.launch(argv, slot, {}, process, stdin=subprocess.PIPE)
        return process

    @property
    def usable(self) -> bool:
        """Whether it waits for a job, or may still do so."""
        return not self._child.exited.done() and self._setup_error is None

    async def ready(self, stopped: asyncio.Future[Any] | None = None) -> None:
        """Wait for the import, or for the order to stop; raises SetupFailed."""
        await first_of(self._ready, self._child.exited, *([stopped] if stopped else []))
        if self._child.exited.done():
            status = await self._launcher.close(self._child)
            reason = self._setup_error or failed_exit(status, "\n".join(self._last_words)).error
            raise SetupFailed(f"{self.target} is not ready: {reason}")

    async def work(self, assignment: Assignment, progress: Callable[[int], None], stopped: asyncio.Future[Any]) -> None:
        """Send the one job and wait for its end; raises Stopped where the order to stop came before it."""
        self._progress = progress
        job = f'{{"environment":{json.dumps(assignment.environment())},"input":{assignment.input_json}}}\n'
        self._child.send(job.encode())
        await first_of(self._decided, self._child.exited, stopped)
        if not self._decided.done() and not self._child.exited.done():
            raise Stopped
        # The result is there, or the process is dead: leave the interpreter a moment to shut down in order.
        await asyncio.wait([self._child.exited], timeout=GRACE)

    async def close(self) -> Outcome:
        """Kill what is left; what the process said decides, not how it died after that."""
        status = await self._launcher.close(self._child)
        if self._decided.done():
            return self._decided.result()
        return failed_exit(status, f"exit status {status} without a result")

    def stdout_line(self, line: bytes) -> None:
        """One message of handler_child.Channel."""
        try:
            if len(line) > LINE_LIMIT:
                raise results.too_large()
            self._hear(_MESSAGE.decode(line))
        except RecursionError:
            self._decide(failed(f"the result {strict_json.TooDeep()}"))
        except Unfit as error:
            self._decide(failed(f"the result {error}"))

    def stderr_line(self, line: bytes) -> None:
        """Keep a line that the user's code printed."""
        text = line.decode(errors="replace")
        self._last_words.append(text)
        log.debug("%s: %s", self.target, text)

    def _hear(self, message: _Message) -> None:
        """Raises Unfit."""
        if message.ready:
            self._ready.set_result(None)
        self._setup_error = message.setup_error or self._setup_error
        if message.progress is not None:
            self._progress(message.progress)
        if message.error is not None:
            self._decide(rejected(message.error) if message.rejected else failed(message.error))
        if len(bytes(message.output)):
            self._decide(succeeded(results.result(bytes(message.output))))

    def _decide(self, outcome: Outcome) -> None:
        if not self._decided.done():
            self._decided.set_result(outcome)

"""One supervised process: started, watched until it is ready, restarted when it dies, stopped."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.data_dir.layout import DataDir
from workers.stack import leftovers
from workers.stack.account import Account
from workers.stack.errors import PartFailed
from workers.stack.logs import Log, PartLog
from workers.stack.process import child_argv, describe, foreign_environment, spawn

FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0  # s before a part that died is started again
HEALTHY_AFTER = 30.0  # s of running after which the delay is the first one again
FAILURES_BEFORE_READY = 3  # more of them before it was ever ready, and it is given up
READY_STEP = 0.05  # seconds between readiness checks


async def _nothing() -> None:
    """Prepare nothing."""


async def _at_once() -> bool:
    """Ready as soon as it runs."""
    return True


@dataclass(frozen=True, slots=True)
class PartSpec:
    """A program, and how to treat it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None  # None: ours without our settings
    account: Account | None = None  # None: as ourselves
    cwd: Path | None = None  # None: where we are
    once: bool = False  # runs to its end, and is ready when it ended well
    prepare: Callable[[], Awaitable[None]] = _nothing  # before every start
    ready: Callable[[], Awaitable[bool]] = _at_once  # asked again and again after every start
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # what it gets when the supervisor dies (Linux)
    grace: float = 3.0  # s from the stop signal to SIGKILL
    noteworthy: re.Pattern[str] | None = None  # the lines for the console, or None for all


class Part:
    """One process of the stack, kept running until it is stopped. Everything it starts shares its process group."""

    def __init__(self, spec: PartSpec, data_dir: DataDir, log: Log) -> None:
        self.spec = spec
        self.log = PartLog(spec.name, data_dir.logs, log, spec.noteworthy)
        self._pids = data_dir.run
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._was_ready = False
        self._failure: PartFailed | None = None
        self._stopping = False

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start keeping it running. Does nothing if it is kept already."""
        if self._keeper is None:
            self._stopping = self.log.stopping = False
            self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def until_ready(self, within: float) -> None:
        """Wait until it is ready. Raises PartFailed if it fails too often, or is not ready `within` seconds."""
        if self._keeper is None:
            raise PartFailed(self.name, "is stopped", self.log.tail)
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait((ready, self._keeper), timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._failure:
            raise self._failure
        if not self._ready.is_set():
            raise PartFailed(self.name, f"is not ready after {within:g} s", self.log.tail)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the process and everything it started. A part that dies of it is restarted; `stop` is for good."""
        if self.pid is not None:
            if number not in (signal.SIGSTOP, signal.SIGCONT):
                self._ready.clear()
            leftovers.signal_group(self.pid, number)

    def abandon(self) -> None:
        """Kill it with SIGKILL, without a restart."""
        self._stopping = self.log.stopping = True
        self.kill()

    async def stop(self, number: signal.Signals | None = None) -> None:
        """End it for good: the stop signal (or `number`), `grace` seconds, SIGKILL. `start` starts it again."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        self._stopping = self.log.stopping = True
        self.kill(number or self.spec.stop_signal)
        if self.pid is None:
            keeper.cancel()  # it is between two runs
        await asyncio.wait((keeper,), timeout=self.spec.grace)
        if not keeper.done():
            self.log.event(f"still runs {self.spec.grace:g} s after the stop signal: killing it")
            self.kill()
        with suppress(asyncio.CancelledError):
            await keeper
        self.log.close()

    async def _keep(self) -> None:
        """Run it again and again until it is stopped, or has failed too often before it was ever ready."""
        delay, failures = FIRST_DELAY, 0
        while True:
            began = time.monotonic()
            end = await self._try_once()
            if end is None or self._stopping:
                return
            failures += 1
            if not self._was_ready and failures > FAILURES_BEFORE_READY:
                self._failure = PartFailed(self.name, f"failed {failures} times ({end})", self.log.tail)
                return
            if time.monotonic() - began > HEALTHY_AFTER:
                delay = FIRST_DELAY
            self.log.event(f"{end}: starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _try_once(self) -> str | None:
        """Run it to its end. Returns how it ended, or None if its work was done."""
        try:
            await self.spec.prepare()
            status = await self._run()
        except Exception as error:  # noqa: BLE001  no error may end the supervision
            return f"cannot be started ({error or repr(error)})"
        if self.spec.once and status == 0:
            self._ready.set()
            return None
        return describe(status)

    async def _run(self) -> int:
        """Start it, watch it, wait for its end. Returns its exit status."""
        argv = child_argv(self.spec.argv, self.spec.account, self.spec.death_signal)
        process, drain = await spawn(argv, self.log.line, self.spec.env or foreign_environment(), self.spec.cwd)
        self._process = process
        leftovers.record(self._pids, self.name, process.pid, self.spec.stop_signal)
        watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")
        try:
            status = await process.wait()
        finally:
            watcher.cancel()
            self._ready.clear()
            self._process = None
        leftovers.signal_group(process.pid, signal.SIGKILL)  # what it left behind
        leftovers.forget(self._pids, self.name)
        await drain()
        return status

    async def _watch(self) -> None:
        """Ask repeatedly until it is ready."""
        if self.spec.once:
            return
        while not await self._is_ready():  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(READY_STEP)
        if self._was_ready:
            self.log.event("is back")
        self._was_ready = True
        self._ready.set()

    async def _is_ready(self) -> bool:
        """Ask once whether it is ready. An unexpected error is logged, and the question repeated."""
        try:
            return await self.spec.ready()
        except Exception as error:  # noqa: BLE001
            complaint = f"cannot be asked whether it is ready ({error or repr(error)})"
            if complaint not in self.log.tail:
                self.log.event(complaint)
            return False

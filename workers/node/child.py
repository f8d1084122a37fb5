"""One process of user work: in its own session, tied to the agent's life, killed with everything it started."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Protocol

from workers.node.lines import LineSplitter
from workers.node.output import OUTPUT_LIMIT
from workers.node.process_tree import GRACE, MARKER, kill_tree
from workers.node.slots import Slot
from workers.node.waiting import first_of

LINE_LIMIT = OUTPUT_LIMIT + 64  # bytes of a line on stdout: an output in its envelope
STDERR_LINE_LIMIT = 2000
_DRAIN = 1.0  # seconds to read what is left in the pipes of a dead process
_PR_SET_PDEATHSIG = 1


class Listener(Protocol):
    """Who hears what a child says; lines come without their end."""

    def stdout_line(self, line: bytes) -> None: ...
    def stderr_line(self, line: bytes) -> None: ...


class Child(asyncio.SubprocessProtocol):
    """A running process, from spawn to the last of its pipes."""

    def __init__(self, marker: str, listener: Listener) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._marker = marker
        self._lines = {
            1: LineSplitter(listener.stdout_line, LINE_LIMIT),
            2: LineSplitter(listener.stderr_line, STDERR_LINE_LIMIT),
        }
        self._open_pipes = {1, 2}
        self._drained = asyncio.Event()
        self._transport: asyncio.SubprocessTransport

    def send(self, data: bytes) -> None:
        """Write to a stdin that is a pipe; what the child does not read is dropped when it exits."""
        pipe = self._transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)
        pipe.write(data)

    async def close(self, grace: float = GRACE) -> int:
        """Kill whatever is left of it, hear its last lines, and return the exit status (negative: the signal)."""
        await kill_tree(self._transport.get_pid(), self._marker, grace)
        # Before the transport is closed: closing one that has not heard of the exit yet asks the kernel itself, and
        # so takes the exit status away from asyncio's watcher, which then warns of an unknown child and reports 255.
        await first_of(self.exited)
        with suppress(TimeoutError):  # a pipe can be held by a process that nothing of us can find
            await asyncio.wait_for(self._drained.wait(), _DRAIN)
        self._transport.close()
        return self.exited.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._lines[fd].feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open_pipes.discard(fd)
        if fd in self._lines:
            self._lines[fd].end()
        if not self._open_pipes:
            self._drained.set()

    def process_exited(self) -> None:
        status = self._transport.get_returncode()
        assert status is not None
        self.exited.set_result(status)


class Launcher:
    """Starts children; `run` names this run of the agent, to find what a dead agent left behind."""

    def __init__(self, run: str, environ: Mapping[str, str]) -> None:
        self._run = run
        self._numbers = itertools.count(1)
        # The agent's own settings, its key among them, are none of the work's business.
        self._environ = {
            name: environ[name] for name in environ if not name.startswith(("ORCHESTRATOR_", "TRACEPARENT"))
        }

    async def launch(
        self,
        argv: Sequence[str],
        slot: Slot,
        environment: Mapping[str, str],
        listener: Listener,
        stdin: int | IO[bytes],
    ) -> Child:
        """Start a program on the slot's device; raises OSError where it cannot be started."""
        marker = f"{self._run}/{next(self._numbers)}/"
        own = {"CUDA_VISIBLE_DEVICES": slot.device, MARKER: marker}
        _, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: Child(marker, listener),
            *argv,
            stdin=stdin,
            env={**self._environ, **environment, **own},
            start_new_session=True,
            preexec_fn=_tie_to_parent(),
        )
        return child


def _tie_to_parent() -> Callable[[], None] | None:
    """PR_SET_PDEATHSIG in the child: not even kill -9 of the agent leaves its work behind (Linux only)."""
    if sys.platform != "linux":
        return None
    libc, parent = _LIBC, os.getpid()

    def tie() -> None:  # between fork and exec: two system calls, no allocation of note
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return tie


_LIBC = ctypes.CDLL(None)

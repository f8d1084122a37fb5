"""One process of user work below its supervisor: gone with everything that it started before it counts as ended."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from infra.json import results
from workers.node import supervise
from workers.node.errors import SetupFailed
from workers.node.lines import LineSplitter
from workers.node.run_as import User
from workers.node.slots import Slot
from workers.node.supervise import GRACE, LONGEST_STEP, STEP

log = logging.getLogger(__name__)

LINE_LIMIT = results.MAX_REPORT + 64  # bytes of a line on stdout: a result in its envelope
STDERR_LINE_LIMIT = 2000
_DRAIN = 1.0  # seconds to read what is left in the pipes of a dead process
_SUPERVISOR_GRACE = 5.0  # seconds beyond GRACE; a supervisor that its own work has stopped is killed then
_START_TIMEOUT = 30.0  # seconds until a supervisor reports that the program runs
_SWEEP_TIMEOUT = 3.0  # seconds to wait for strays that have been killed
# As a module, not as a script: so it is compiled once, and not for each attempt.
_RUN = "import sys; sys.path.append(sys.argv[1]); import supervise; supervise.run(*sys.argv[2:])"
_SUPERVISE = (sys.executable, "-I", "-S", "-c", _RUN, str(Path(supervise.__file__).parent))
_PR_SET_CHILD_SUBREAPER, _PR_CAPBSET_DROP = 36, 24
_CAP_SYS_PTRACE = 19
_LIBC = ctypes.CDLL(None)
_CAPABILITY_VERSION = (ctypes.c_uint32 * 2)(0x20080522, 0)  # and the pid: our own
_CAPABILITIES = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, and the high halves of these
_INHERITABLE = 2


class Listener(Protocol):
    """Receives what a child prints, in lines without their end."""

    def stdout_line(self, line: bytes) -> None: ...
    def stderr_line(self, line: bytes) -> None: ...


class _Nobody:
    """Hears nothing."""

    def stdout_line(self, line: bytes) -> None: ...
    def stderr_line(self, line: bytes) -> None: ...


class Child(asyncio.SubprocessProtocol):
    """A supervised process, from spawn to the last of its pipes. `exited`: it, and all that it started."""

    def __init__(self, control: socket.socket, listener: Listener) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._control = control
        self._lines = {
            1: LineSplitter(listener.stdout_line, LINE_LIMIT),
            2: LineSplitter(listener.stderr_line, STDERR_LINE_LIMIT),
        }
        self._open_pipes = {1, 2}
        self._drained = asyncio.Event()
        self._transport: asyncio.SubprocessTransport

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._transport.get_pid()

    def send(self, data: bytes) -> None:
        """Write to a stdin that is a pipe; what the child does not read is dropped when it exits."""
        pipe = self._transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)
        pipe.write(data)

    def kill(self) -> None:
        """End it at once, without a grace."""
        with suppress(OSError):  # it has ended
            self._control.shutdown(socket.SHUT_RDWR)

    async def close(self) -> int:
        """End what is left of it, hear its last lines, and return the exit status (negative: the signal)."""
        if not self.exited.done():
            await self._end()
        with suppress(TimeoutError):  # a pipe can be held by a process that nothing of us can find
            await asyncio.wait_for(self._drained.wait(), _DRAIN)
        self._control.close()
        self._transport.close()
        return self.exited.result()

    async def _end(self) -> None:
        with suppress(OSError):  # `kill` came before, or its end is near
            self._control.send(b".")
        # Not by the transport's `send_signal`: that asks the kernel whether the process has ended, and so takes its
        # status away from asyncio's watcher, which then warns of an unknown child and reports 255. So does closing the
        # transport of a process whose exit it has not heard of.
        for number in (signal.SIGCONT, signal.SIGKILL):
            if not self.exited.done():
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)
                await asyncio.wait([self.exited], timeout=GRACE + _SUPERVISOR_GRACE)
        await asyncio.wait([self.exited])

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
    """Starts children, and kills what is left of a child whose supervisor did not clean up."""

    def __init__(
        self,
        environ: Mapping[str, str],
        user: User | None = None,
        *,
        adopts: bool = False,
        start_timeout: float = _START_TIMEOUT,
        sweep_timeout: float = _SWEEP_TIMEOUT,
    ) -> None:
        """`adopts`: this process starts all its children here, so others are strays of supervisors that have ended."""
        # The agent's own settings are none of the work's business.
        self._environ = {
            name: environ[name] for name in environ if not name.startswith(("ORCHESTRATOR_", "TRACEPARENT"))
        }
        self._user = user
        self._start_timeout = start_timeout
        self._sweep_timeout = sweep_timeout
        self._children: set[Child] = set()
        self._unkillable: set[int] = set()  # strays that are not waited for any more
        self._starting = asyncio.Lock()  # held while there is a child of ours that is not among `_children` yet
        self._adopts = adopts and sys.platform == "linux"
        if self._adopts:
            _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    async def launch(
        self,
        argv: Sequence[str],
        slot: Slot,
        environment: Mapping[str, str],
        listener: Listener,
        stdin: int | IO[bytes],
    ) -> Child:
        """Start a program on the slot's device; raises OSError where it cannot be started."""
        env = {**self._environ, **(self._user.environment if self._user else {}), **environment}
        env["CUDA_VISIBLE_DEVICES"] = slot.device
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with theirs:
                child = await self._spawn(argv, env, listener, stdin, ours, theirs)
            await self._begun(child, ours, argv[0])
        except BaseException:
            ours.close()
            raise
        return child

    async def close(self, child: Child) -> int:
        """End a child, if it has not ended, with all that is left of it; its exit status (negative: the signal)."""
        status = await child.close()
        if self._adopts:  # with any status: the work can end its supervisor in any way, which spares its orphans
            await self._sweep()
        return status

    async def check(self, slot: Slot) -> None:
        """Raises SetupFailed where the work's user can't work in our working directory."""
        if self._user is None:
            return
        child = await self.launch(("sh", "-c", "cd ."), slot, {}, _Nobody(), asyncio.subprocess.DEVNULL)
        await asyncio.wait([child.exited])
        if await self.close(child) != 0:
            raise SetupFailed(f"--run-as: {self._user.name} can't enter the working directory, {os.getcwd()}")

    def kill_all(self) -> None:
        """End every child at once."""
        for child in self._children:
            child.kill()

    async def _spawn(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        listener: Listener,
        stdin: int | IO[bytes],
        ours: socket.socket,
        theirs: socket.socket,
    ) -> Child:
        user = self._user.credentials if self._user else ""
        async with self._starting:
            _, child = await asyncio.get_running_loop().subprocess_exec(
                lambda: Child(ours, listener),
                *(*_SUPERVISE, str(theirs.fileno()), user, *argv),
                stdin=stdin,
                env=env,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
                preexec_fn=_confine if sys.platform == "linux" else None,
            )
            self._children.add(child)
        child.exited.add_done_callback(lambda _: self._children.discard(child))
        return child

    async def _begun(self, child: Child, control: socket.socket, program: str) -> None:
        """Wait until the program runs. Raises OSError."""
        try:
            async with asyncio.timeout(self._start_timeout):
                said = (await asyncio.get_running_loop().sock_recv(control, 16)).strip()
        except TimeoutError:  # its work may have stopped it before it could report
            said = b""
        if said == b"0":
            return
        await self.close(child)
        number = int(said) if said.isdigit() else 0
        raise OSError(number, os.strerror(number) if number else "its supervisor did not answer", program)

    async def _sweep(self) -> None:
        """Kill children that we have not started: what a supervisor left behind, however it ended."""
        if _children() <= self._own():
            return
        clock, step = asyncio.get_running_loop().time, STEP
        deadline = clock() + self._sweep_timeout
        while strays := await self._kill_strays():
            if clock() > deadline:
                self._unkillable |= strays
                log.error("cannot end the processes %s of an attempt; the next end of one tries again", sorted(strays))
                return
            await asyncio.sleep(step)
            step = min(LONGEST_STEP, 2 * step)

    async def _kill_strays(self) -> set[int]:
        """One try at all of them; returns those whose end is worth waiting for."""
        async with self._starting:
            strays = await asyncio.to_thread(supervise.kill_all, os.getpid(), self._own())
            _reap(strays)
        self._unkillable &= strays
        return strays - self._unkillable

    def _own(self) -> set[int]:
        return {child.pid for child in self._children}


def _children() -> set[int]:
    """The pids of our own, and what the kernel makes ours: all are the main thread's."""
    try:
        return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_bytes().split()}
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return set(supervise.descendants(os.getpid()))


def _reap(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ChildProcessError):  # not our own child, or not yet
            os.waitpid(pid, os.WNOHANG)


def _confine() -> None:
    """Between fork and exec: four system calls, no allocation of note.

    Orphans of the work become the supervisor's children. And root's work cannot look into the agent: a process that
    can't be dumped can be read only with this capability. What is not inheritable is not ambient either.
    """
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _LIBC.prctl(_PR_CAPBSET_DROP, _CAP_SYS_PTRACE, 0, 0, 0)
    if _LIBC.capget(_CAPABILITY_VERSION, _CAPABILITIES) == 0:
        _CAPABILITIES[_INHERITABLE] &= ~(1 << _CAP_SYS_PTRACE)
        _LIBC.capset(_CAPABILITY_VERSION, _CAPABILITIES)

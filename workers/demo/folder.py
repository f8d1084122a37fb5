"""The one folder that the demo's work reads and writes. A name in a payload leads below it, or nowhere.

Payloads come from anybody with a user's key, and the work runs as the user of the stack. So a name is followed step by
step from the folder's own descriptor, never through a symbolic link, and one answer covers "outside" and "missing".
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

VARIABLE = "GPU_ORCHESTRATOR_DEMO_FOLDER"
"""The variable that names the folder: absolute, without symbolic links."""
MAX_INPUT = 64 * 2**20  # bytes of a file that is read
MAX_TOTAL = 2**30  # bytes in the folder, above which nothing more is written
LEAST = 4096  # bytes that a file counts for at least: its room on the disk

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not make us wait
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class Refused(ValueError):
    """Nothing of this name may be read or written here."""


class Folder:
    """A folder and everything below it; names are relative to it, or absolute and inside."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def of_environment(cls) -> Folder:
        """The folder that the stack has given its nodes. Raises RuntimeError if there is none."""
        if not (root := os.environ.get(VARIABLE)):
            raise RuntimeError(f"{VARIABLE} is not set: this work runs on the nodes of `gpu-orchestrator run`")
        return cls(Path(root))

    def read(self, name: str) -> bytes:
        """A regular file's content. Raises Refused."""
        with self._parent(name) as (parent, last), _refusing():
            descriptor = os.open(last, _READ, dir_fd=parent)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Refused
                content = file.read(MAX_INPUT + 1)
        if len(content) > MAX_INPUT:
            raise ValueError(f"larger than {MAX_INPUT} bytes")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all; it replaces a file of that name, but not a folder.

        A reader never sees half a file, and two writers cannot mix. Raises Refused, ValueError if the folder is full,
        OSError if the disk is.
        """
        self.check(name, len(content))
        with self._parent(name) as (parent, last):
            draft = f".{secrets.token_hex(8)}.part"
            with _refusing():
                descriptor = os.open(draft, _CREATE, 0o644, dir_fd=parent)
            try:
                with open(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
                with _refusing():
                    os.replace(draft, last, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                os.unlink(draft, dir_fd=parent)
                raise

    def check(self, name: str, size: int = 0) -> None:
        """Check that a file of `size` bytes may be written there. Raises Refused, and ValueError if the folder is
        full."""
        with self._parent(name) as (parent, last), _refusing():
            if stat.S_ISDIR(_mode(last, parent)):
                raise Refused
        if self._used() + max(size, LEAST) > MAX_TOTAL:
            raise ValueError(f"the demo's folder is full ({MAX_TOTAL} bytes)")

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder that holds the name, and the last part of the name."""
        *folders, last = self._parts(name)
        with _refusing():
            here = os.open(self._root, _FOLDER)
        try:
            for folder in folders:
                with _refusing():
                    below = os.open(folder, _FOLDER, dir_fd=here)
                os.close(here)
                here = below
            yield here, last
        finally:
            os.close(here)

    def _parts(self, name: str) -> tuple[str, ...]:
        path = PurePosixPath(name)
        with _refusing():
            parts = (path.relative_to(self._root) if path.is_absolute() else path).parts
        if not parts or ".." in parts or "\0" in name:
            raise Refused
        return parts

    def _used(self) -> int:
        return sum(_size(folder, name) for folder, _, names in os.walk(self._root) for name in names)


@contextmanager
def _refusing() -> Iterator[None]:
    """Give the same answer for every reason, so that a caller can't learn which files there are."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise Refused from error


def _mode(name: str, parent: int) -> int:
    """The mode of a file; 0 if there is none."""
    with suppress(FileNotFoundError):
        return os.lstat(name, dir_fd=parent).st_mode
    return 0


def _size(folder: str, name: str) -> int:
    with suppress(OSError):
        return max(LEAST, os.lstat(os.path.join(folder, name)).st_size)
    return 0

"""A file that grows by whole lines, on a disk that may be full."""

from __future__ import annotations

import os
from pathlib import Path


class Journal:
    """Appends lines. Where one cannot be written in full nothing of it stays, and the next one is a line of its own."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = open(path, "a+b", buffering=0, opener=private)  # noqa: SIM115 # until `close`
        self._torn = self.size > 0 and os.pread(self._file.fileno(), 1, self.size - 1) != b"\n"

    @property
    def size(self) -> int:
        """The size in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, line: str) -> None:
        """Raises OSError. What a crash has left of a line is ended first."""
        before = self.size
        try:
            self._write(b"\n" * self._torn + line.encode() + b"\n")
        except OSError:
            self._file.truncate(before)
            raise
        self._torn = False

    def close(self) -> None:
        """Nothing is written after this."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        while data:  # an almost full disk takes a part
            data = data[self._file.write(data) :]


def private(path: str, flags: int) -> int:
    """An opener of files that only we may read: they hold attempt tokens, and the output of work."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # the file may be there already
    return descriptor

"""The output of the parts: every line goes to a file per part, and to the console after the part's name."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

Log = Callable[[str, str], None]
"""Takes the name of a part and one line of its output."""

COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)  # ANSI foregrounds, none of them red: red is for errors
MAX_FILE_BYTES = 10_000_000
MAX_LINE_BYTES = 64_000
TAIL_LINES = 20


def console() -> Log:
    """A log that writes `name | line` to standard error, in colour on a terminal."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    seen: list[str] = []

    def write(name: str, line: str) -> None:
        if name not in seen:
            seen.append(name)
        prefix = f"{name:<8} |"
        if colour:
            prefix = f"\x1b[{COLOURS[seen.index(name) % len(COLOURS)]}m{prefix}\x1b[0m"
        sys.stderr.write(f"{prefix} {line}\n")
        sys.stderr.flush()

    return write


class PartLog:
    """The output of one part over all its runs: a file that is rotated at 10 MB, the console, and a tail."""

    def __init__(self, name: str, folder: Path, log: Log, noteworthy: re.Pattern[str] | None) -> None:
        """Only lines that match `noteworthy` (None: all) reach the console; the file gets all."""
        self._name = name
        self._log = log
        self._noteworthy = noteworthy
        self._path = folder / f"{name}.log"
        self._file: TextIO | None = None
        self.stopping = False  # what a foreign part complains about while it is stopped is only for the file
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def line(self, text: str) -> None:
        """Take one line of the part's output."""
        self._write(text)
        if self._noteworthy is None or (self._noteworthy.search(text) and not self.stopping):
            self._log(self._name, text)

    def event(self, text: str) -> None:
        """Take one line about the part, from the supervisor; it always reaches the console."""
        self._write(text)
        self._log(self._name, text)

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._file:
            self._file.close()
            self._file = None

    def _write(self, text: str) -> None:
        self.tail.append(text)
        self._opened().write(text + "\n")
        if self._opened().tell() > MAX_FILE_BYTES:
            self.close()
            self._path.replace(self._path.with_suffix(".log.1"))

    def _opened(self) -> TextIO:
        if self._file is None:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = open(descriptor, "w", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115
        return self._file


class OutputPipe(asyncio.Protocol):
    """The reading end of a part's standard output and error, cut into lines."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._rest = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(_text(line))
        if len(self._rest) > MAX_LINE_BYTES:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._flush()
        if not self.closed.done():
            self.closed.set_result(None)

    def _flush(self) -> None:
        if self._rest:
            self._line(_text(self._rest))
            self._rest = b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")

"""Output of the commands: data to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, TypeVar

T = TypeVar("T")

_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys instead of showing them, except the end of a line."""


def printable(text: str) -> str:
    """A foreign text, as it can be shown on a terminal."""
    return _UNSEEN.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text
    )


def one_line(text: str) -> str:
    """`printable`, on one line."""
    return printable(" ".join(text.split()))


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_json(value: Any, *, indent: int | None = None) -> None:
    """A value as JSON on standard output."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not is_utf8, indent=indent)
    write(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def write_result(task: dict[str, Any]) -> None:
    """A completed task's result on standard output: readable on a terminal, else as it is."""
    if task.get("status") != "COMPLETED" or task.get("result") is None:
        return
    try:
        write_json(json.loads(task["result"]), indent=2 if sys.stdout.isatty() else None)
    except ValueError:
        write(printable(task["result"]))


def show(value: Any, text: str, *, as_json: bool) -> None:
    """A value as JSON where that is asked for, otherwise a line about it."""
    if as_json:
        write_json(value)
    else:
        say(text)


def can_ask() -> bool:
    """Whether the user can be asked, also where the output goes elsewhere."""
    with _keyboard() as keyboard:
        return keyboard is not None


def asked(question: str) -> bool:
    """Ask a person for a yes. Raises KeyboardInterrupt; the end of the input is a no."""
    with _keyboard() as keyboard, _screen() as screen:
        screen.write(f"{printable(question)} [y/N] ")
        screen.flush()
        answer = "" if keyboard is None else keyboard.readline()
        if not answer.endswith("\n"):
            screen.write("\n")
    return answer.strip().lower() in {"y", "yes"}


def _screen() -> AbstractContextManager[IO[str]]:
    """Where a person reads: standard error, or the terminal if that goes elsewhere."""
    return _terminal(sys.stderr, os.O_WRONLY, "w", otherwise=sys.stderr)


def _keyboard() -> AbstractContextManager[IO[str] | None]:
    """Where a person types: standard input, or the terminal behind a pipe. None if nobody does."""
    return _terminal(sys.stdin, os.O_RDONLY, "r", otherwise=None)


@contextmanager
def _terminal(stream: IO[str] | None, flags: int, mode: str, *, otherwise: T) -> Iterator[IO[str] | T]:
    """A stream that is on a terminal, or the terminal itself, or what to take without one."""
    if stream is not None and stream.isatty():
        yield stream
        return
    try:
        opened = os.open("/dev/tty", flags | os.O_CLOEXEC)
    except OSError:
        yield otherwise
        return
    with os.fdopen(opened, mode, encoding="utf-8", errors="replace") as terminal:
        yield terminal

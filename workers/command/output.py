"""What the commands write: data to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it, but the end of a line."""


def printable(text: str) -> str:
    """A text of somebody else, as it can be shown on a terminal."""
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


def can_ask() -> bool:
    """Whether somebody can be asked, also where the output goes elsewhere."""
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


@contextmanager
def _screen() -> Iterator[IO[str]]:
    """Where a person reads: standard error, or the terminal if that goes elsewhere."""
    if sys.stderr.isatty():
        yield sys.stderr
        return
    try:
        opened = os.open("/dev/tty", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        yield sys.stderr
        return
    with os.fdopen(opened, "w", encoding="utf-8", errors="replace") as screen:
        yield screen


@contextmanager
def _keyboard() -> Iterator[IO[str] | None]:
    """Where a person types: standard input, or the terminal behind a pipe. None if nobody does."""
    if sys.stdin is not None and sys.stdin.isatty():
        yield sys.stdin
        return
    try:
        opened = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    with os.fdopen(opened, encoding="utf-8", errors="replace") as keyboard:
        yield keyboard

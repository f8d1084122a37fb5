"""The work that a node runs for a task type: a Python callable or any program."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Handler:
    """A callable `function(input: dict, report: Callable[[int], None]) -> dict`."""

    target: str  # package.module:function


@dataclass(frozen=True)
class Command:
    """A program: input as JSON on stdin, `progress N` on stderr; the last JSON document on stdout is the result."""

    argv: tuple[str, ...]


Work = Handler | Command


def parse_handler(text: str) -> tuple[int, Handler]:
    """`2=package.module:function`; raises ValueError."""
    task_type, target = _split(text)
    if not _TARGET.fullmatch(target):
        raise ValueError(f"{target!r} is not package.module:function")
    return task_type, Handler(target)


def parse_command(text: str) -> tuple[int, Command]:
    """`2=program argument 'one more'`, split as a shell would but run without one; raises ValueError."""
    task_type, words = _split(text)
    argv = tuple(shlex.split(words))
    if not argv:
        raise ValueError("the command is empty")
    return task_type, Command(argv)


def _split(text: str) -> tuple[int, str]:
    number, equals, rest = text.strip().partition("=")
    if not equals or not re.fullmatch(r"\d{1,9}", number):
        raise ValueError(f"{text!r} does not start with TYPE=, an integer task type")
    return int(number), rest

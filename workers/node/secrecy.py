"""The agent's key, and what the work of the same user could see of it."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4
_ARGUMENTS, _ENVIRONMENT = (48, 49), (50, 51)  # where they begin and end, in proc_pid_stat(5), counted from 1
_LONG = 12  # characters; a shorter secret is looked for only as a whole value, as it may be part of anything


def hide(secret: str) -> None:
    """Wipe a secret from what the kernel shows of this process, and close its memory to all but CAP_SYS_PTRACE.

    `/proc/PID/environ` and `cmdline` are the memory that the process was started with: unsetting a variable does not
    change it. Where there is no Linux the variables are unset, and that is all.
    """
    for name in [name for name, value in os.environ.items() if _holds(value, secret)]:
        del os.environ[name]
    if sys.platform != "linux":
        return
    for start, end in _regions():
        _wipe(start, end, os.fsencode(secret))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def _holds(value: str, secret: str) -> bool:
    return value == secret or (len(secret) >= _LONG and secret in value)


def _regions() -> list[tuple[int, int]]:
    """The memory of the arguments, and of the environment."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()  # from the third on
    return [(int(fields[first - 3]), int(fields[last - 3])) for first, last in (_ARGUMENTS, _ENVIRONMENT)]


def _wipe(start: int, end: int, secret: bytes) -> None:
    if not 0 < start < end:
        return
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        if any(_holds(os.fsdecode(text), os.fsdecode(secret)) for text in (entry, entry.partition(b"=")[2])):
            for place in re.finditer(b"(?=%b)" % re.escape(secret), entry):  # also where it occurs within itself
                ctypes.memset(start + place.start(), ord("x"), len(secret))
        start += len(entry) + 1

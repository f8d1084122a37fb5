"""Parts that outlived their supervisor: found by pid *and* start time, never by name, and stopped.

On Linux a part gets a signal when its supervisor dies, even by kill -9 (see `child`). Elsewhere, and for what slips
through, each part leaves a file with its pid and start time in the data directory.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from workers.waiting import until

START_TIME_TOLERANCE = 2.0  # s; psutil derives it from the wall clock at boot, which may be stepped


def record(folder: Path, name: str, pid: int, stop_signal: signal.Signals) -> None:
    """Record a running part, so that a later stack on this directory can find it."""
    with suppress(psutil.NoSuchProcess):
        entry = {"pid": pid, "started": psutil.Process(pid).create_time(), "signal": int(stop_signal)}
        _file(folder, name).write_text(json.dumps(entry), encoding="ascii")


def forget(folder: Path, name: str) -> None:
    """Remove the record of a part that has ended."""
    _file(folder, name).unlink(missing_ok=True)


async def stop_leftovers(folder: Path, grace: float = 3.0) -> list[str]:
    """Stop every recorded part that still runs, by SIGKILL after `grace` seconds. Returns their names.

    The caller holds the lock of the data directory, so none of them has a supervisor.
    """
    found = [note for note in _notes(folder) if note.processes()]
    for note in found:
        signal_group(note.pid, note.stop_signal)
    if not await until(lambda: not any(note.processes() for note in found), grace):
        for note in found:
            signal_group(note.pid, signal.SIGKILL)
        await until(lambda: not any(note.processes() for note in found), grace)
    for note in _notes(folder):
        forget(folder, note.name)
    return sorted(note.name for note in found)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a part and everything it started: each part leads a process group of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


@dataclass(frozen=True, slots=True)
class Note:
    """The contents of a part's file."""

    name: str
    pid: int
    started: float  # s since 1970, by the clock then
    stop_signal: signal.Signals

    def processes(self) -> list[int]:
        """The running processes of the part's group; none if the pid belongs to another process by now.

        The part itself may be gone: while one of its children lives, no other process gets its pid.
        """
        with suppress(psutil.NoSuchProcess):
            if abs(psutil.Process(self.pid).create_time() - self.started) > START_TIME_TOLERANCE:
                return []
        return [process.pid for process in psutil.process_iter() if _runs_in_group(process, self.pid)]


def _notes(folder: Path) -> Iterator[Note]:
    for path in folder.glob("*.pid"):
        try:
            entry = json.loads(path.read_text(encoding="ascii"))
            yield Note(path.stem, entry["pid"], entry["started"], signal.Signals(entry["signal"]))
        except (ValueError, KeyError):
            path.unlink()  # half written when the machine went down, which stopped the part as well


def _runs_in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.pid"

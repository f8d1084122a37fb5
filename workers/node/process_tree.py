"""Finding and killing everything that a piece of user work has started."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

# Every process of user work inherits this variable, so that a daemon that left its session and its parent is found too.
MARKER = "GPU_ORCHESTRATOR_CHILD"
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
_POLL = 0.005  # seconds


async def kill_tree(leader: int | None, marker: str, grace: float = GRACE) -> None:
    """End the session of `leader` and everything that carries `marker`; SIGKILL after `grace` seconds."""
    victims = await asyncio.to_thread(find_tree, leader, marker)
    _signal(victims, signal.SIGTERM)
    for _ in range(round(grace / _POLL)):
        if not any(map(_lives, victims)):
            break
        await asyncio.sleep(_POLL)
    # What ended politely may have left children of its own: look until nothing is found.
    while victims and (victims := await asyncio.to_thread(find_tree, leader, marker)):
        _signal(victims, signal.SIGKILL)
        await asyncio.sleep(_POLL)


def find_tree(leader: int | None, marker: str) -> list[psutil.Process]:
    """All living members: of the leader's session, its descendants, and the carriers of the marker."""
    pids = {pid for pid in psutil.pids() if _session(pid) == leader or _carries(pid, marker)}
    found = []
    for pid in pids | _descendants(leader):
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return [process for process in found if _lives(process) and process.pid != os.getpid()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _descendants(leader: int | None) -> set[int]:
    if leader is None:
        return set()
    try:
        return {child.pid for child in psutil.Process(leader).children(recursive=True)}
    except psutil.Error:
        return set()


def _carries(pid: int, marker: str) -> bool:
    entry = f"{MARKER}={marker}"
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:  # a tenth of the cost of psutil's
            return entry.encode() in environ.read()
    except FileNotFoundError:
        return psutil.MACOS and _carries_by_psutil(pid, marker)
    except OSError:
        return False


def _carries_by_psutil(pid: int, marker: str) -> bool:
    try:
        return psutil.Process(pid).environ().get(MARKER, "").startswith(marker)
    except psutil.Error:
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(victims: Iterable[psutil.Process], number: signal.Signals) -> None:
    for victim in victims:
        with suppress(psutil.Error):  # psutil checks that the pid is still the same process
            victim.send_signal(number)

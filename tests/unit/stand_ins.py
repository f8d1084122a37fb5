"""Programs in the place of a stack's own, and what is asked of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


SLEEP = python("import time; time.sleep(60)")


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return os.access(path, os.F_OK)

    return ready


def log_to(lines: list[tuple[str, str]]) -> Callable[[str, str], None]:
    return lambda name, line: lines.append((name, line))

"""The work of the harness' nodes: short, and with a result that the client can foretell."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

TASK_TYPE = 7


def digest(n: int) -> str:
    """What task number `n` comes to."""
    return hashlib.sha256(f"task {n}".encode()).hexdigest()


def run(input: dict[str, Any], report: Callable[[int], None]) -> dict[str, Any]:
    """Take `ms` milliseconds, and tell what came of it."""
    time.sleep(input["ms"] / 2000)
    report(50)
    time.sleep(input["ms"] / 2000)
    return {"digest": digest(input["n"])}

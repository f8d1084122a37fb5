"""The work of the harness' nodes: short, and with a result that the client can predict."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from typing import Any

from workers.node import BadInput

TASK_TYPE, OTHER_TYPE = 7, 8
TYPES = (TASK_TYPE, OTHER_TYPE)
RAISED, REFUSED, BY_CHANCE = "no face found", "not a picture", "the scheduler diverged"


def digest(n: int) -> str:
    """The result of task number `n`."""
    return hashlib.sha256(f"task {n}".encode()).hexdigest()


def run(input: dict[str, Any], report: Callable[[int], None]) -> dict[str, Any]:
    """Take `ms` milliseconds, and return what came of it; or go wrong as the input says."""
    if input.get("goes") == "wrong":
        raise ValueError(RAISED)
    if input.get("goes") == "to no node":
        raise BadInput(REFUSED)
    if input.get("goes") == "by chance" and random.random() < 0.5:
        raise RuntimeError(BY_CHANCE)
    time.sleep(input["ms"] / 2000)
    report(50)
    time.sleep(input["ms"] / 2000)
    return {"digest": digest(input["n"])}

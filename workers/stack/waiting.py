"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP = 0.05  # s between two looks


async def until(condition: Callable[[], bool], within: float, step: float = STEP) -> bool:
    """Wait until a condition holds. Returns False if it does not `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(step)
    return True

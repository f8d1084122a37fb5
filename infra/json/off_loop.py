"""A thread for work on a caller's input that would block the event loop for too long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")

SMALL = 8 * 1024
"""Bytes below which the work costs less than the trip to the thread and back."""
SWITCH_S = 0.0005
"""Seconds for which the thread may keep the interpreter while the loop wants it. A call waits for it about a dozen
times; Python's default is 5 ms each time."""

lineage: ContextVar[str] = ContextVar("lineage", default="")
"""The lineage of the caller whose request is handled; empty for a request without a key."""


class OffLoop:
    """One thread, on which the lineages take turns. Python would not let two threads compute at once."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "off-loop", sys.setswitchinterval, (SWITCH_S,))
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """Return or raise what `work` does; `size` is its input's size in bytes."""
        if size <= SMALL:
            return work()
        async with self._turns.setdefault(lineage.get(), asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)


off_loop = OffLoop()
"""The thread of this process."""

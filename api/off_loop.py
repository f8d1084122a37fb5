"""Work on a caller's input that would hold the event loop for too long. A thread does it, and others are served
meanwhile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

from api.errors import Unavailable
from api.in_flight import lineage

T = TypeVar("T")

SMALL = 8 * 1024
"""Bytes below which the work costs less than the trip to the thread and back."""
SWITCH_S = 0.0005
"""Seconds for which the thread may keep the interpreter while the loop wants it. A call waits for it about a dozen
times; Python's default is 5 ms each time."""
MOST_WAITING = 64
"""Pieces of work of a lineage, each with a body of up to a mebibyte in memory."""


class Line:
    """The pieces of work of one lineage: the one whose turn it is, and those that wait for it."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.length = 0


class OffLoop:
    """One thread, on which the lineages take turns. Python would not let two threads compute at once."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "off-loop", sys.setswitchinterval, (SWITCH_S,))
        self._lines: WeakValueDictionary[str, Line] = WeakValueDictionary()

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """What `work` returns or raises; `size` is its input's size in bytes. Raises Unavailable if too many wait."""
        if size <= SMALL:
            return work()
        line = self._lines.setdefault(lineage.get(), Line())
        if line.length >= MOST_WAITING:
            raise Unavailable
        line.length += 1
        try:
            async with line.turn:
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            line.length -= 1


off_loop = OffLoop()
"""The thread of this process."""

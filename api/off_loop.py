"""Work on what a caller sent that takes long for one request: done in a thread, so that others are served meanwhile."""

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
"""Bytes whose handling is shorter than the way to the thread and back is worth."""
SWITCH_S = 0.0005
"""How long the thread keeps Python where the loop wants it: a call waits for it a dozen times, by default 5 ms each."""
MOST_WAITING = 64
"""Of a lineage's pieces of work, each with a body of up to a mebibyte in memory."""


class Line:
    """The pieces of work of one lineage: the one whose turn it is, and those that wait for it."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.length = 0


class OffLoop:
    """One thread, since Python would not let two of them compute at once. The lineages take turns on it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "off-loop", sys.setswitchinterval, (SWITCH_S,))
        self._lines: WeakValueDictionary[str, Line] = WeakValueDictionary()

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """What `work` returns or raises; `size` is that of its input in bytes. Raises Unavailable where many wait."""
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
"""This process' thread."""

"""Single flight: concurrent callers share one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Makes one call at a time for each key. What it returns or raises is shared."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[T]] = {}

    async def run(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return or raise what the call for the key does: the one that is under way, or `call`.

        A caller that is cancelled leaves the call to the others.
        """
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.create_task(call())
            running.add_done_callback(partial(self._forget, key))
        return await asyncio.shield(running)

    def _forget(self, key: K, ended: asyncio.Task[T]) -> None:
        del self._running[key]
        if not ended.cancelled():
            ended.exception()  # callers may have given up: then asyncio would log it as never retrieved

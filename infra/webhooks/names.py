"""Look-ups of receivers' names, in threads of their own: a name that nobody answers for holds up no other work."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from weakref import WeakValueDictionary

from infra.resilience.single_flight import SingleFlight

THREADS = 64
SHARE = 8
"""Threads that the names of one owner may occupy. Its other look-ups wait for these, and nobody else does."""
BEGIN_S = 5.0
"""Seconds after which a look-up is given up for which no thread is free."""


class NotBegun(Exception):
    """All threads, or all of the owner's share, wait for other names."""


class Names:
    """Looks names up, each once at a time for an owner: its concurrent callers for one name share the look-up.

    The resolver can't be interrupted, so a look-up keeps its thread until the resolver gives up.
    """

    def __init__(self, threads: int = THREADS, share: int = SHARE, begin_s: float = BEGIN_S) -> None:
        self._threads = ThreadPoolExecutor(threads, "look-up")
        self._free = asyncio.Semaphore(threads)
        self._share = share
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._begin_s = begin_s
        self._running: SingleFlight[tuple[str, str], list[str]] = SingleFlight()

    async def look_up(self, owner: str, host: str) -> list[str]:
        """The addresses that this machine's resolver knows. Raises OSError, NotBegun."""
        return await self._running.run((owner, host), lambda: self._found(owner, host))

    async def _found(self, owner: str, host: str) -> list[str]:
        share = self._shares.setdefault(owner, asyncio.Semaphore(self._share))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._begin_s):
                    await held.enter_async_context(share)
                    await held.enter_async_context(self._free)
            except TimeoutError:
                raise NotBegun from None
            return await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host)


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"not a name: {error}") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))

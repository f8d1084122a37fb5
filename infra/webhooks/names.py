"""Look-ups of receivers' names, in threads of their own: a name that nobody answers for holds up no other work."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

THREADS = 64
BEGIN_S = 5.0
"""Seconds after which a look-up is given up for which no thread is free."""


class NotBegun(Exception):
    """All threads wait for other names."""


class Names:
    """Looks names up, each once at a time: concurrent callers for one name share the look-up.

    The resolver can't be interrupted, so a look-up keeps its thread until the resolver gives up.
    """

    def __init__(self, threads: int = THREADS, begin_s: float = BEGIN_S) -> None:
        self._threads = ThreadPoolExecutor(threads, "look-up")
        self._free = asyncio.Semaphore(threads)
        self._begin_s = begin_s
        self._running: dict[str, asyncio.Task[list[str]]] = {}

    async def look_up(self, host: str) -> list[str]:
        """The addresses that this machine's resolver knows. Raises OSError, NotBegun."""
        running = self._running.get(host)
        if running is None:
            running = self._running[host] = asyncio.create_task(self._found(host))
            running.add_done_callback(lambda ended: self._forget(host, ended))
        return await asyncio.shield(running)

    def _forget(self, host: str, ended: asyncio.Task[list[str]]) -> None:
        del self._running[host]
        if not ended.cancelled():
            ended.exception()  # callers may have given up: then asyncio would log it as never retrieved

    async def _found(self, host: str) -> list[str]:
        try:
            async with asyncio.timeout(self._begin_s):
                await self._free.acquire()
        except TimeoutError:
            raise NotBegun from None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host)
        finally:
            self._free.release()


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"not a name: {error}") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))

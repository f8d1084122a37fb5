"""A proxy of our own between two parts, which delays, cuts the connection, or drops the answer to what was done.

It carries HTTP and Postgres' protocol alike, since it looks only at pieces of the stream: a piece from the client is
taken for a request where `asks` says so, and the first piece after it from the server is the beginning of the answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

PIECE = 256 * 1024  # bytes
BACKLOG = 256
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(frozen=True)
class Chances:
    """Per request: it is delayed; the connection is cut before it is passed on; its answer is dropped."""

    delay: float = 0.0
    reset: float = 0.0
    drop: float = 0.0
    longest_delay_s: float = 0.5


class Proxy:
    """Listens until it is closed; `faulty` switches the faults, `done` counts them by kind."""

    def __init__(self, dials: list[Dial], chances: Chances, chance: Random, asks: Callable[[bytes], bool]) -> None:
        self.faulty = False
        self.done: Counter[str] = Counter()
        self._dials = dials
        self._chances = chances
        self._chance = chance
        self._asks = asks
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def listen_on_port(self) -> int:
        """Listen on loopback; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=PIECE, backlog=BACKLOG)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def listen_on_path(self, path: Path) -> None:
        """Listen on a Unix socket."""
        self._server = await asyncio.start_unix_server(self._serve, path, limit=PIECE, backlog=BACKLOG)

    async def close(self) -> None:
        """Cut everything."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer)
        finally:
            self._open.discard(task)
            _cut(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await self._dial()
        if upstream is None:
            return
        drops = asyncio.Event()
        ways = [
            asyncio.create_task(self._ask(reader, upstream[1], drops)),
            asyncio.create_task(self._answer(upstream[0], writer, drops)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            _cut(upstream[1])

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A server that accepts connections, as a load balancer would choose it."""
        for dial in self._chance.sample(self._dials, len(self._dials)):
            with suppress(OSError):
                return await dial()
        return None

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drops: asyncio.Event) -> None:
        while piece := await reader.read(PIECE):
            if self.faulty and self._asks(piece):
                fault = self._choose()
                if fault == "delay":
                    await asyncio.sleep(self._chance.uniform(0, self._chances.longest_delay_s))
                elif fault == "reset":
                    return
                elif fault == "drop":
                    drops.set()
            writer.write(piece)
            await writer.drain()

    def _choose(self) -> str | None:
        """Choose at most one fault per request."""
        point = self._chance.random()
        for name in ("delay", "reset", "drop"):
            point -= getattr(self._chances, name)
            if point < 0:
                self.done[name] += 1
                return name
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drops: asyncio.Event) -> None:
        while piece := await reader.read(PIECE):
            if drops.is_set():
                return  # what was asked for is done, and nobody hears of it
            writer.write(piece)
            await writer.drain()


def to_port(port: int) -> Dial:
    """A server on loopback."""
    return lambda: asyncio.open_connection("127.0.0.1", port, limit=PIECE)


def to_path(path: Path) -> Dial:
    """A server on a Unix socket."""
    return lambda: asyncio.open_unix_connection(path, limit=PIECE)


def is_http_request(piece: bytes) -> bool:
    """The first bytes of a request."""
    return piece[:5] in {b"GET /", b"POST ", b"PUT /", b"DELET"}


def is_commit(piece: bytes) -> bool:
    """The end of a transaction: the one statement after which the answer matters."""
    return b"COMMIT\0" in piece


def _cut(writer: asyncio.StreamWriter) -> None:
    """Close as a broken network does."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_INET:
        with suppress(OSError):
            os.fstat(connection.fileno())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()

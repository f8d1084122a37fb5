"""A receiver of webhooks on loopback: it remembers what it gets, and a test chooses its answers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

HANG, RESET = -1, -2
"""Instead of a status: no answer, or a connection that is cut."""


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Answers with the next of `answers`, then with `usual`. A text behind the status is a header."""

    usual: int = 200
    answers: deque[int] = field(default_factory=deque)
    header: str = ""
    before: str = ""  # what comes before the answer
    endless: bool = False  # the answer's body has no end
    tls: ssl.SSLContext | None = None
    got: list[Got] = field(default_factory=list)
    choose: Callable[[Got], int] | None = None
    port: int = 0
    at_once: int = 0
    most_at_once: int = 0
    delay: float = 0.0
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._served, "127.0.0.1", self.port, ssl=self.tls, backlog=500)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for one in self._serving:
            one.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def ids(self) -> set[str]:
        return {one.id for one in self.got}

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.at_once -= 1
            with suppress(OSError):
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await _read(reader)
        self.got.append(got)
        await asyncio.sleep(self.delay)
        status = self.answers.popleft() if self.answers else self.choose(got) if self.choose else self.usual
        if status == HANG:
            await asyncio.sleep(3600)
        if status == RESET:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        body = "" if status == 204 else "ok"
        length = "" if self.endless or not body else f"Content-Length: {len(body)}\r\n"
        writer.write(
            f"{self.before}HTTP/1.1 {status} X\r\n{length}{self.header}Connection: close\r\n\r\n{body}".encode()
        )
        while self.endless:
            writer.write(b"x" * 65536)
            await writer.drain()
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Got:
    _, path, _ = (await reader.readline()).decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Got(path, headers, await reader.readexactly(int(headers.get("content-length", 0))))

"""HTTP/1.1 with as little work as possible: the bench shares the machine with what it measures.

A usual client spends a millisecond of CPU per call, which on two cores would be a tenth of the measured value.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

STALE_AFTER_S = 3.0  # an idle connection may be closed by the server after 5 s
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class WireError(Exception):
    """The API did not answer as a healthy one does."""


@dataclass(frozen=True)
class Message:
    """A request or an answer: its first line with the headers, and its body."""

    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, whatever the case of its name."""
        found = re.search(rb"\r\n" + re.escape(name.encode()) + rb": *([^\r]*)", self.head, re.IGNORECASE)
        return None if found is None else found[1].decode("latin-1")


def take(buffer: bytearray) -> Message | None:
    """Cut the first whole message off the buffer. Only bodies with a Content-Length are understood."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end])
    found = _LENGTH.search(head)
    total = end + 4 + (int(found[1]) if found else 0)
    if len(buffer) < total:
        return None
    body = bytes(buffer[end + 4 : total])
    del buffer[:total]
    return Message(head, body)


@dataclass(frozen=True)
class Reply:
    """An answer with status 200, and when its request was sent and it was received (`time.perf_counter`)."""

    message: Message
    sent: float
    received: float

    @property
    def took(self) -> float:
        """Seconds."""
        return self.received - self.sent

    @property
    def data(self) -> Any:
        """`data` of the envelope."""
        return json.loads(self.message.body)["data"]


class Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request on it."""

    def __init__(self) -> None:
        self.open = True
        self.used = time.perf_counter()
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[Message, float]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._waiting is not None and not self._waiting.done() and (message := take(self._buffer)) is not None:
            self._waiting.set_result((message, time.perf_counter()))
            self._waiting = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(WireError("the connection was closed before the answer"))

    async def ask(self, request: bytes) -> Reply:
        """Send and wait. Raises WireError."""
        assert self._transport is not None
        self._waiting = waiting = asyncio.get_running_loop().create_future()
        sent = time.perf_counter()
        self._transport.write(request)
        message, received = await waiting
        self.used = received
        return Reply(message, sent, received)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Api:
    """The REST API, with any number of calls at once."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._where = (host, port)
        self._fixed = f"Host: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        self._idle: deque[Connection] = deque()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        once: str | None = None,
        below: str = "/api/v2",
    ) -> Reply:
        """One call; `once` is its Idempotency-Key. Raises WireError unless the answer is 200."""
        content = b"" if body is None else json.dumps(body).encode()
        own = "" if token is None else f"X-Attempt-Token: {token}\r\n"
        own += "" if once is None else f"Idempotency-Key: {once}\r\n"
        if content:
            own += "Content-Type: application/json\r\n"
        head = f"{method} {below}{path} HTTP/1.1\r\n{self._fixed}{own}Content-Length: {len(content)}\r\n\r\n"
        connection = await self._connection()
        reply = await connection.ask(head.encode() + content)
        self._idle.append(connection)
        if not reply.message.head.startswith(b"HTTP/1.1 200"):
            raise WireError(f"{method} {path}: {reply.message.head[:20]!r} {reply.message.body[:300]!r}")
        return reply

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and time.perf_counter() - connection.used < STALE_AFTER_S:
                return connection
            connection.close()
        _, fresh = await asyncio.get_running_loop().create_connection(Connection, *self._where)
        return fresh

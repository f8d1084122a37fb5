"""The proxy does what it says, one fault at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from tests.faults.proxy import Chances, Proxy, is_commit, is_http_request, to_port


class Server:
    """Answers every piece with itself in capitals, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            self.heard.append(piece)
            writer.write(piece.upper())
        writer.close()


@asynccontextmanager
async def between(chances: Chances, asks: Callable[[bytes], bool]) -> AsyncIterator[tuple[Server, Proxy, int]]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    upstream = listening.sockets[0].getsockname()[1]
    with_nobody = 1  # a port on which nobody listens: the proxy tries the next one
    proxy = Proxy([to_port(with_nobody), to_port(upstream)], chances, Random(1), asks)
    try:
        yield server, proxy, await proxy.listen_on_port()
    finally:
        await proxy.close()
        listening.close()


async def call(port: int, request: bytes) -> bytes:
    """The answer; empty if the connection was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(1000), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("chances", "answer", "heard"),
    [
        (Chances(), b"GET /A", [b"GET /a"]),
        (Chances(delay=1.0, longest_delay_s=0.01), b"GET /A", [b"GET /a"]),
        (Chances(reset=1.0), b"", []),
        (Chances(drop=1.0), b"", [b"GET /a"]),
    ],
)
async def test_each_fault(chances, answer, heard):
    async with between(chances, is_http_request) as (server, proxy, port):
        assert await call(port, b"GET /a") == b"GET /A"  # it is not faulty yet
        server.heard.clear()
        proxy.faulty = True
        assert await call(port, b"GET /a") == answer
        assert server.heard == heard
        assert sum(proxy.done.values()) == (chances != Chances())


async def test_only_requests_are_hit():
    async with between(Chances(drop=1.0), is_commit) as (server, proxy, port):
        proxy.faulty = True
        assert await call(port, b"Q....select\0") == b"Q....SELECT\0"
        assert await call(port, b"Q....COMMIT\0") == b""
        assert server.heard == [b"Q....select\0", b"Q....COMMIT\0"]

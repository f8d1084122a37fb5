"""Readers that fall behind."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.unit.http_server import BIG, GET, LAST, App, on_both_loops, serving


async def asks_for_big(port: int, last: bool = False) -> socket.socket:
    """A caller that asks for what is large, and reads nothing yet."""
    ours = socket.socket()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(ours, ("127.0.0.1", port))
    await loop.sock_sendall(ours, GET.replace(b"/ ", b"/big ") if not last else LAST.replace(b"/last", b"/big"))
    return ours


async def read_all(ours: socket.socket, pause_s: float = 0.0) -> int:
    """How many bytes come until the end, or until the connection is cut."""
    total = 0
    try:
        while data := await asyncio.get_running_loop().sock_recv(ours, 1 << 18):
            total += len(data)
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass
    finally:
        ours.close()
    return total


@pytest.mark.parametrize("last", [False, True])
@on_both_loops
async def test_a_reader_without_progress_is_cut(last: bool) -> None:
    async with serving(App(), stall_s=0.3) as port:
        ours = await asks_for_big(port, last)
        await asyncio.sleep(0.8)
        assert await asyncio.wait_for(read_all(ours), 5) < BIG


@on_both_loops
async def test_a_slow_reader_gets_everything() -> None:
    async with serving(App(), stall_s=0.5) as port:
        began = time.monotonic()
        ours = await asks_for_big(port, last=True)
        assert await asyncio.wait_for(read_all(ours, 0.02), 20) > BIG
        assert time.monotonic() - began > 0.6


@on_both_loops
async def test_what_waits_for_its_readers_is_bounded() -> None:
    async with serving(App(), unsent=2 * BIG) as port:
        readers = [await asks_for_big(port) for _ in range(12)]
        await asyncio.sleep(0.3)
        taken = await asyncio.gather(*(read_all_within(ours) for ours in readers))
        assert 1 <= [total > BIG for total in taken].count(True) <= 4
        assert taken[-1] > BIG


async def read_all_within(ours: socket.socket) -> int:
    total = 0
    loop = asyncio.get_running_loop()
    try:
        while total <= BIG and (data := await loop.sock_recv(ours, 1 << 18)):
            total += len(data)
    except ConnectionError:
        pass
    finally:
        ours.close()
    return total

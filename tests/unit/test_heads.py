"""Limits of heads and of what frames a body."""

from __future__ import annotations

import asyncio
import json
import socket

import psutil
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http.protocol import MAX_HEAD, MAX_HEADERS
from tests.unit.http_server import GET, LAST, App, answers, exchange, keep_sending, on_both_loops, refused, serving

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = "请求参数错误: 请求头 超过 32 KiB"
HEADERS = "请求参数错误: 请求头 超过 100 个"
FRAMING = "请求参数错误: body 分块的开销超过 32 KiB"


def head(size: int, last: bytes = b"") -> bytes:
    """A request whose head has this many bytes."""
    begin, end = b"GET /sized HTTP/1.1\r\nHost: x\r\n" + last + b"X-Long: ", b"\r\n\r\n"
    return begin + b"a" * (size - len(begin) - len(end)) + end


TOO_LONG = {
    "value": [head(MAX_HEAD + 1)],
    "50 MB": [head(50_000_000)],
    "name": [b"GET / HTTP/1.1\r\n" + b"a" * 50_000],
    "line": [b"GET /" + b"a" * 50_000],
    "raw line": [("GET /" + "图" * 20_000).encode()],
    "method": [b"G" + b"E" * 50_000],
    "pieces": [b"GET / HTTP/1.1\r\nX: ", *[b"a" * 100] * 400],
    "breaks": [b"\r\n" * 20_000],
    "folded": [b"GET / HTTP/1.1\r\nX: a" + b"\r\n b" * 20_000],
    "lines": [b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 1000 + b"\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 60],
}


@pytest.mark.parametrize("pieces", TOO_LONG.values(), ids=TOO_LONG)
@on_both_loops
async def test_a_head_that_is_too_long_is_refused(pieces: list[bytes]) -> None:
    async with serving(App()) as port:
        *_, answer = await exchange(port, *pieces)
    assert answer[0] == 400
    assert json.loads(answer[1])["message"] in (HEAD, "请求参数错误: 不是合法的HTTP请求")


@on_both_loops
async def test_a_head_may_be_as_long_as_the_bound() -> None:
    app = App()
    async with serving(app) as port:
        assert await exchange(port, head(MAX_HEAD) + head(MAX_HEAD) + LAST) == [(200, b"/sized")] * 2 + [
            (200, b"/last")
        ]
        *fine, answer = await exchange(port, GET + head(MAX_HEAD) + head(MAX_HEAD + 1) + LAST)
        assert fine == [(200, b"/"), (200, b"/sized")]
        refused(answer, HEAD)
        for count in (MAX_HEADERS, MAX_HEADERS + 1):
            (answer,) = await exchange(
                port, b"GET / HTTP/1.1\r\nConnection: close\r\n" + b"a: b\r\n" * (count - 1) + b"\r\n"
            )
            assert answer[0] == (200 if count == MAX_HEADERS else 400)
        refused(answer, HEADERS)


@on_both_loops
async def test_a_raw_line_counts_as_it_is_read() -> None:
    """Each byte from 0x80 on becomes three."""
    async with serving(App()) as port:
        for count in (3000, 4000):
            (answer,) = await exchange(
                port, f"GET /sized?{'图' * count} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
            )
            assert answer[0] == (200 if count == 3000 else 400)
    refused(answer, HEAD)


CHUNKS = {
    "trailers": b"0\r\n" + b"a: b\r\n" * 6000 + b"\r\n",
    "extension": b"1;" + b"a" * 40_000 + b"\r\nx\r\n0\r\n\r\n",
    "extensions": b"1;abcdefgh\r\nx\r\n" * 4000 + b"0\r\n\r\n",
    "small chunks": b"1\r\nx\r\n" * 12_000 + b"0\r\n\r\n",
    "zeros": b"0" * 40_000 + b"1\r\nx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS)
@on_both_loops
async def test_what_frames_a_body_is_bounded_as_a_head_is(body: bytes) -> None:
    async with serving(App()) as port:
        (answer,) = await exchange(port, CHUNKED + body + LAST)
    assert answer[0] == 400
    assert json.loads(answer[1])["message"] in (FRAMING, "请求参数错误: 不是合法的HTTP请求")


@on_both_loops
async def test_a_large_body_in_chunks_and_trailers_are_fine() -> None:
    async with serving(App()) as port:
        chunks = (b"1000\r\n" + b"x" * 0x1000 + b"\r\n") * 500 + b"0\r\nTrailer: 1\r\n\r\n"
        assert await exchange(port, CHUNKED + chunks + CHUNKED + b"1;a=b\r\nx\r\n0\r\n\r\n" + LAST) == [
            (200, b"/"),
            (200, b"/"),
            (200, b"/last"),
        ]


@on_both_loops
async def test_the_loop_is_not_held_up_by_what_is_refused() -> None:
    loop = asyncio.get_running_loop()
    async with serving(App()) as port:
        sending = asyncio.create_task(asyncio.to_thread(send_and_read, port, head(50_000_000)))
        longest, at = 0.0, loop.time()
        while not sending.done():
            await asyncio.sleep(0)
            longest, at = max(longest, loop.time() - at), loop.time()
        assert (await sending).startswith(b"HTTP/1.1 400 ")
    assert longest < 0.5  # 2 s and more where all of it is parsed; other processes have their part in it


def send_and_read(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as ours:
        ours.sendall(data)
        return ours.recv(1 << 16)


@on_both_loops
async def test_many_long_heads_take_little_memory() -> None:
    """16 MiB on each of 20 connections, refused or not."""
    process = psutil.Process()
    async with serving(App(), linger_s=60.0) as port:  # longer than a busy machine takes to send 320 MiB
        before = process.memory_info().rss
        await asyncio.gather(*(flood(port) for _ in range(20)))
        assert process.memory_info().rss - before < 64 * 1024 * 1024


async def flood(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nX: ")
    piece = b"a" * (1 << 16)
    for _ in range(256):
        writer.write(piece)
        await writer.drain()
    refused(answers(await reader.read())[0], HEAD)
    writer.close()


@on_both_loops
async def test_a_refused_caller_is_heard_out_but_not_for_ever() -> None:
    async with serving(App(), linger_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(MAX_HEAD + 1))
        refused(answers(await reader.read())[0], HEAD)
        with pytest.raises(ConnectionError):
            await keep_sending(writer)
        writer.close()


async def test_blank_lines_before_a_request_are_parsed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, 32 KiB of them held the event loop for 0.15 s."""
    pieces: list[bytes] = []
    parse = HttpToolsProtocol.data_received

    def counted(self: HttpToolsProtocol, data: bytes) -> None:
        pieces.append(data)
        parse(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", counted)
    async with serving(App()) as port:
        for breaks in (b"\n", b"\r\n"):
            assert await exchange(port, breaks * 10_000 + LAST) == [(200, b"/last")]
    assert b"".join(pieces).count(b"\n") > 20_000
    assert len(pieces) < 100

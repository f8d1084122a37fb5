"""Limits of connections: heads, framing, bytes sent ahead, idle connections, and readers that fall behind.

Each test runs on asyncio's own loop and on uvloop, which the API runs on.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import pytest
import uvloop

from api.http.connections import Limits, within_the_files
from api.http.protocol import MAX_HEAD, MAX_HEADERS
from tests.unit.http_server import answers, serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = 8 * 1024 * 1024
HEAD = "请求参数错误: 请求头 超过 32 KiB"
HEADERS = "请求参数错误: 请求头 超过 100 个"
FRAMING = "请求参数错误: body 分块的开销超过 32 KiB"


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
    def run(**arguments: Any) -> None:
        with asyncio.Runner(loop_factory=arguments.pop("factory")) as runner:
            runner.run(asyncio.wait_for(test(**arguments), 60))

    factory = inspect.Parameter("factory", inspect.Parameter.KEYWORD_ONLY)
    own = inspect.signature(test)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), factory])  # type: ignore[attr-defined]
    run.__doc__ = test.__doc__
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("factory", loops, ids=["asyncio", "uvloop"])(run)


class App:
    """Answers with the path; `/big` with BIG bytes, `/wait` when the gate opens, others without reading a body."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
        if scope["path"] == "/wait":
            self.waiting.put_nowait(scope["path"])
            await self.gate.wait()
        await asyncio.sleep(0)
        body = b"x" * BIG if scope["path"] == "/big" else scope["path"].encode()
        head = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})


async def told(port: int, *pieces: bytes) -> list[tuple[int, bytes]]:
    """All answers until the server closes; each piece is sent for itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return answers(await reader.read())
    finally:
        writer.close()


def refused(answer: tuple[int, bytes], message: str, code: int = 400) -> None:
    assert (answer[0], json.loads(answer[1])) == (code, {"code": code, "message": message, "data": None})


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
        *_, answer = await told(port, *pieces)
    assert answer[0] == 400
    assert json.loads(answer[1])["message"] in (HEAD, "请求参数错误: 不是合法的HTTP请求")


@on_both_loops
async def test_a_head_may_be_as_long_as_the_bound() -> None:
    app = App()
    async with serving(app) as port:
        assert await told(port, head(MAX_HEAD) + head(MAX_HEAD) + LAST) == [(200, b"/sized")] * 2 + [(200, b"/last")]
        *fine, answer = await told(port, GET + head(MAX_HEAD) + head(MAX_HEAD + 1) + LAST)
        assert fine == [(200, b"/"), (200, b"/sized")]
        refused(answer, HEAD)
        for count in (MAX_HEADERS, MAX_HEADERS + 1):
            (answer,) = await told(
                port, b"GET / HTTP/1.1\r\nConnection: close\r\n" + b"a: b\r\n" * (count - 1) + b"\r\n"
            )
            assert answer[0] == (200 if count == MAX_HEADERS else 400)
        refused(answer, HEADERS)


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
        (answer,) = await told(port, CHUNKED + body + LAST)
    assert answer[0] == 400
    assert json.loads(answer[1])["message"] in (FRAMING, "请求参数错误: 不是合法的HTTP请求")


@on_both_loops
async def test_a_large_body_in_chunks_and_trailers_are_fine() -> None:
    async with serving(App()) as port:
        chunks = (b"1000\r\n" + b"x" * 0x1000 + b"\r\n") * 500 + b"0\r\nTrailer: 1\r\n\r\n"
        assert await told(port, CHUNKED + chunks + CHUNKED + b"1;a=b\r\nx\r\n0\r\n\r\n" + LAST) == [
            (200, b"/"),
            (200, b"/"),
            (200, b"/last"),
        ]


@on_both_loops
async def test_a_request_waits_for_the_answer_before_it() -> None:
    app = App()
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 1000 + LAST)
        await app.waiting.get()
        await asyncio.sleep(0.05)  # the others would be asked by now
        assert app.asked == 1
        app.gate.set()
        assert [status for status, _ in answers(await reader.read())] == [200] * 1002
        writer.close()


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


async def keep_sending(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a" * 1000)
        await writer.drain()
        await asyncio.sleep(0.01)


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the server has closed, without waiting for it."""
    try:
        return await asyncio.wait_for(reader.read(1), 0.05) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


async def asked(port: int, request: bytes = GET) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with one answer behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    await reader.read(1)
    return reader, writer


@on_both_loops
async def test_the_longest_idle_connection_makes_room() -> None:
    async with serving(App(), most=3) as port:
        first = await asked(port)
        second = await asyncio.open_connection("127.0.0.1", port)  # says nothing
        third = await asked(port)
        first[1].write(GET)  # so the second is the longest idle
        await first[0].readuntil(b"\r\n\r\n/")
        fourth = await asked(port)
        fates = [await closed(reader) for reader, _ in (first, second, third, fourth)]
        assert fates == [False, True, False, False]
        for _, writer in (first, second, third, fourth):
            writer.close()


@on_both_loops
async def test_an_idle_flood_keeps_nobody_out() -> None:
    async with serving(App(), most=20) as port:
        flood = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for _ in range(50):
            assert await told(port, LAST) == [(200, b"/last")]
            flood.append(await asyncio.open_connection("127.0.0.1", port))
        for _, writer in flood:
            writer.close()


@on_both_loops
async def test_a_connection_too_many_is_refused_while_all_others_work() -> None:
    app = App()
    async with serving(app, most=2) as port:
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in waiting:
            writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in waiting:
            await app.waiting.get()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        raw = await reader.read()
        writer.close()
        assert b"retry-after: 1\r\n" in raw.lower()
        refused(answers(raw)[0], "服务暂不可用，请稍后重试", 503)
        app.gate.set()
        for reader, writer in waiting:
            assert (await reader.readuntil(b"/wait")).startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert await told(port, LAST) == [(200, b"/last")]


@on_both_loops
async def test_an_idle_connection_outlives_a_slow_head() -> None:
    async with serving(App(), head_s=0.5, idle_s=1.2) as port:
        reader, writer = await asked(port)
        for _ in range(2):
            await asyncio.sleep(0.6)
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n/")
        began = time.monotonic()
        assert await reader.read() == b""
        assert 0.8 < time.monotonic() - began < 5
        writer.close()


@pytest.mark.parametrize("drop", [b"\r\n", b"G"])
@on_both_loops
async def test_an_idle_connection_is_not_kept_by_drops(drop: bytes) -> None:
    async with serving(App(), head_s=1.0, idle_s=60.0) as port:
        reader, writer = await asked(port)
        began = time.monotonic()
        ended = asyncio.create_task(reader.read())
        while not ended.done() and time.monotonic() - began < 10:
            writer.write(drop)
            drop = drop if drop == b"\r\n" else b"E"
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < 5
        await asyncio.wait({ended})
        writer.close()


@on_both_loops
async def test_the_rest_of_a_body_that_nobody_reads_comes_in_time_or_never() -> None:
    """Where the answer is complete before the body is."""
    async with serving(App(), head_s=1.0, idle_s=60.0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        began = time.monotonic()
        ended = asyncio.create_task(reader.read())
        while not ended.done() and time.monotonic() - began < 10:
            writer.write(b"a")
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < 5
        await asyncio.wait({ended})
        writer.close()


PUT = b"PUT / HTTP/1.1\r\nHost: x\r\n%b\r\n"
PIECE = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"


@pytest.mark.parametrize(
    ("header", "pieces"),
    [(b"Content-Length: 1048577\r\n", 0), (b"Content-Length: 9999999999\r\n", 0),
     (b"Transfer-Encoding: chunked\r\n", 33)],
)  # fmt: skip
@on_both_loops
async def test_what_nobody_reads_is_not_read_for_long(header: bytes, pieces: int) -> None:
    async with serving(App(), linger_s=0.2) as port:
        reader, writer = await asked(port, PUT % header)
        writer.write(PIECE * pieces)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        with pytest.raises(ConnectionError):
            await keep_sending(writer)
        writer.close()


@pytest.mark.parametrize("header", [b"Content-Length: %d\r\n" % (31 * len(PIECE)), b"Transfer-Encoding: chunked\r\n"])
@on_both_loops
async def test_after_a_body_of_a_mebibyte_that_nobody_reads_the_connection_goes_on(header: bytes) -> None:
    async with serving(App()) as port:
        reader, writer = await asked(port, PUT % header)
        writer.write(PIECE * 31 + (b"0\r\n\r\n" if b"chunked" in header else b"") + LAST)
        assert answers(await reader.read()) == [(200, b"/last")]
        writer.close()


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
@on_both_loops
async def test_the_last_answer_is_not_overtaken_by_a_reset(version: bytes) -> None:
    async with serving(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = PUT % b"Connection: close\r\nContent-Length: 1000000\r\n"
        writer.write(head.replace(b"HTTP/1.1", version) + b"a" * 1000)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n/"), 5)
        for _ in range(20):
            writer.write(b"a" * 1000)
            await writer.drain()
            await asyncio.sleep(0.001)
        assert await reader.read() == b""
        writer.close()


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


@pytest.mark.parametrize(
    ("files", "most", "then", "left"),
    [
        ((1024, 100_000), 4000, 6304, 4000),
        ((1024, 4096), 4000, 4096, 2048),
        ((1024, 1024), 4000, 1024, 512),
        ((10_000, 10_000), 4000, 10_000, 4000),
        ((5000, -1), 4000, 6304, 4000),
        ((-1, -1), 4000, -1, 4000),
    ],
)
def test_no_more_connections_than_files(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], most: int, then: int, left: int
) -> None:
    now = list(files)
    monkeypatch.setattr("resource.getrlimit", lambda _: tuple(now))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: now.__setitem__(slice(None), limits))
    assert within_the_files(Limits(most=most, head_s=1.0)) == Limits(most=left, head_s=1.0)
    assert now == [then, files[1]]

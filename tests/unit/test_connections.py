"""Limits of connections: their number, idle ones, and bytes that nobody reads."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from api.http.connections import Limits, within_the_files
from tests.unit.http_server import GET, LAST, App, answers, exchange, keep_sending, on_both_loops, refused, serving


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
            assert await exchange(port, LAST) == [(200, b"/last")]
            flood.append(await asyncio.open_connection("127.0.0.1", port))
        for _, writer in flood:
            writer.close()


@on_both_loops
async def test_a_connection_too_many_is_refused_while_all_others_work() -> None:
    keyed = Keyed()
    app = keyed.app
    async with serving(keyed, most=2) as port:
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in waiting:
            writer.write(KEYED.replace(b"/ ", b"/wait ", 1))
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
        assert await exchange(port, LAST) == [(200, b"/last")]


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


class Keyed:
    """An application that finds a caller where a key is presented, as the authentication does."""

    def __init__(self) -> None:
        self.app = App()
        self.posted: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            self.posted.put_nowait(scope["path"])
        if any(name == b"x-api-key" for name, _ in scope["headers"]):
            scope["state"]["caller"] = "node"
        await self.app(scope, receive, send)


KEYED = b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\n\r\n"
FORM = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


async def begun(app: Keyed, port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose request the application has, without its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await app.posted.get()
    return reader, writer


@on_both_loops
async def test_a_body_that_never_comes_keeps_nobody_out() -> None:
    """Anybody may send a form to the console."""
    keyed = Keyed()
    async with serving(keyed, most=4) as port:
        node = await asked(port, KEYED)
        forms = [await begun(keyed, port, FORM) for _ in range(6)]
        assert await exchange(port, LAST) == [(200, b"/last")]
        assert [await closed(reader) for reader, _ in (node, *forms)] == [False, *[True] * 4, *[False] * 2]
        for _, writer in (node, *forms):
            writer.close()


@on_both_loops
async def test_the_body_of_a_known_caller_may_take_its_time() -> None:
    keyed = Keyed()
    async with serving(keyed, most=2) as port:
        reader, writer = await begun(keyed, port, FORM.replace(b"\r\n\r\n", b"\r\nX-API-Key: k\r\n\r\n"))
        for _ in range(5):
            assert await exchange(port, LAST) == [(200, b"/last")]
            (await begun(keyed, port, FORM))[1].close()
        writer.write(b"0123456789")
        assert (await reader.readuntil(b"\r\n\r\n/")).startswith(b"HTTP/1.1 200 ")
        writer.close()


@on_both_loops
async def test_slow_calls_without_a_key_keep_nobody_out() -> None:
    keyed = Keyed()
    async with serving(keyed, most=3) as port:
        node = await asked(port, KEYED)
        strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in strangers:
            writer.write(GET.replace(b"/ ", b"/wait ", 1) * 100)
        for _ in strangers:
            await keyed.app.waiting.get()
        assert await exchange(port, LAST) == [(200, b"/last")]
        assert [await closed(reader) for reader, _ in (node, *strangers)] == [False, True, False]
        keyed.app.gate.set()
        for _, writer in (node, *strangers):
            writer.close()


@on_both_loops
async def test_those_without_a_key_make_room_first() -> None:
    """Idle ones and slow readers among them, however long the others have been idle."""
    async with serving(Keyed(), most=3) as port:
        node = await asked(port, KEYED)
        for request in (b"", GET, GET.replace(b"/ ", b"/big ")):
            strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            for _, writer in strangers:
                writer.write(request)
            if request:
                for reader, _ in strangers[1:]:
                    await reader.readuntil(b"\r\n\r\n")
            assert await exchange(port, LAST) == [(200, b"/last")]
            for _, writer in strangers:
                writer.close()
        assert not await closed(node[0])
        node[1].close()

"""Bytes over a bare socket: raw UTF-8 in a request line, and input that is no HTTP at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import parse_qs

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.http.errors import BadRequest
from api.http.protocol import MAX_HEAD
from api.middleware.target import MAX_PARAMETERS, Utf8Target
from tests.unit.http_server import answers, maker, serving

FAULT = "POST /gpus/gpu_001/fault?reason=手动标记 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
BODY = "手动\nGET /图 HTTP/1.1\r\n\r\n".encode()
TASK = b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LAST = "GET /图?a=é HTTP/1.1\r\nHost: é\r\nConnection: close\r\n\r\n".encode()


@dataclass
class Echo:
    """Answers what it was asked, once it may."""

    gate: asyncio.Event

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await self.gate.wait()
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("ascii")).items()}
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        heard = [scope["method"], scope["path"], query, body.decode(), headers["host"]]
        answer = json.dumps(heard).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", str(len(answer)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Server:
    port: int
    gate: asyncio.Event

    async def send(self, *pieces: bytes) -> bytes:
        """All that comes back until the server closes; each piece is a read of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    async def converse(self, *requests: bytes) -> list[Any]:
        """Every answer, each awaited before the next request is sent on the same connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        heard = []
        for request in requests:
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = int(head.partition(b"content-length: ")[2].split()[0])
            heard.append(json.loads(await reader.readexactly(length)))
        writer.close()
        return heard

    async def ask(self, *pieces: bytes) -> list[Any]:
        return [json.loads(body) for _, body in answers(await self.send(*pieces))]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    gate = asyncio.Event()
    gate.set()
    async with serving(Echo(gate)) as port:
        yield Server(port, gate)


def refused(answer: tuple[int, bytes]) -> None:
    status, body = answer
    assert (status, json.loads(body)) == (
        400,
        {"code": 400, "message": "请求参数错误: 不是合法的HTTP请求", "data": None},
    )


ASKED: list[Any] = [
    ["POST", "/gpus/gpu_001/fault", {"reason": "手动标记"}, "", "x"],
    ["POST", "/tasks", {}, BODY.decode(), "x"],
    ["GET", "/图", {"a": "é"}, "", "é"],
]
CHUNK: Any = ["POST", "/c", {}, BODY.decode(), "x"]


async def test_raw_utf8_is_understood(server: Server) -> None:
    assert await server.ask(FAULT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) == ASKED[:1]


async def test_one_connection_carries_many_requests_and_bodies_stay_as_they_are(server: Server) -> None:
    assert await server.ask(FAULT + TASK + b"\r\n" + LAST) == ASKED
    assert await server.converse(FAULT, TASK, CHUNKED, LAST) == [*ASKED[:2], CHUNK, ASKED[2]]


async def test_an_offered_upgrade_is_ignored(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """`curl --http2` offers one."""
    offer = FAULT.replace(
        b"\r\n\r\n", b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n"
    )
    assert await server.converse(offer, TASK) == ASKED[:2]
    assert await server.ask(offer + TASK + LAST) == ASKED
    assert caplog.text == ""


@pytest.mark.parametrize("offer", [b"Upgrade: h2c", b"uPGRADE: websocket"])
@pytest.mark.parametrize("number", [0, 1])
async def test_a_request_that_offers_an_upgrade_keeps_its_body(number: int, offer: bytes) -> None:
    """Java's client offers one with each request; the parser would read the body as the next request."""
    line, rest = (TASK, CHUNKED)[number].split(b"\r\n", 1)
    stream = b"%s\r\nConnection: Upgrade, HTTP2-Settings\r\n%s\r\nHTTP2-Settings: A\r\n%s" % (line, offer, rest + PLAIN)
    for at in range(len(stream)):
        answered = answers(await _fed([stream[:at], stream[at:]]))
        assert [json.loads(body) for _, body in answered] == [(ASKED[1], CHUNK)[number], STREAMS[CHUNKED + PLAIN][1]]


@pytest.mark.parametrize("target", [b"/x", b"a:80", b"http://a/x"])
async def test_connect_is_refused_with_its_body(server: Server, target: bytes) -> None:
    head = b"CONNECT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (target, len(FAULT))
    (answer,) = answers(await server.send(head + FAULT))
    refused(answer)


async def test_every_byte_may_be_a_read_of_its_own(server: Server) -> None:
    stream = FAULT + TASK + LAST
    assert await server.ask(*(stream[at : at + 1] for at in range(len(stream)))) == ASKED


PLAIN = "GET /plain HTTP/1.1\r\nHost: 图\r\nConnection: close\r\n\r\n".encode()
STREAMS = {
    CHUNKED + PLAIN: [CHUNK, ["GET", "/plain", {}, "", "图"]],
    FAULT + TASK + FAULT + LAST: [*ASKED[:2], ASKED[0], ASKED[2]],
    TASK + CHUNKED + TASK + PLAIN: [ASKED[1], CHUNK, ASKED[1], ["GET", "/plain", {}, "", "图"]],
}


@settings(deadline=None, max_examples=100)
@example(stream=CHUNKED + PLAIN, cuts=[len(CHUNKED) + 25])  # in the head of what nobody saw begin
@given(stream=st.sampled_from(list(STREAMS)), cuts=st.lists(st.integers(0, 600), max_size=8))
def test_it_does_not_matter_where_the_reads_end(stream: bytes, cuts: list[int]) -> None:
    loop = asyncio.new_event_loop()
    pieces = [stream[start:end] for start, end in pairwise([0, *sorted(cuts), len(stream)])]
    answered = loop.run_until_complete(_fed(pieces))
    loop.close()
    assert [json.loads(body) for _, body in answers(answered)] == STREAMS[stream]


async def _fed(pieces: list[bytes]) -> bytes:
    """The protocol without a socket, so that each piece certainly is one read."""
    gate = asyncio.Event()
    gate.set()
    transport = Kept()
    protocol = maker(Echo(gate))()
    protocol.connection_made(transport)
    for piece in pieces:
        await transport.reads.wait()
        for at in range(0, len(piece), MAX_HEAD):
            part = piece[at : at + MAX_HEAD]
            protocol.get_buffer(-1)[: len(part)] = part
            protocol.buffer_updated(len(part))
    await asyncio.wait_for(transport.closed.wait(), 10)
    protocol.connection_lost(None)
    return transport.written


class Kept(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reads = asyncio.Event()
        self.reads.set()
        self.closed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed.set()

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def pause_reading(self) -> None:
        self.reads.clear()

    def resume_reading(self) -> None:
        self.reads.set()

    def get_write_buffer_size(self) -> int:
        return 0


NO_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
    b"hello\r\n\r\n",
    "GET /图 图 HTTP/1.1\r\n\r\n".encode(),
    b"GET /\x01 HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("raw", NO_HTTP, ids=range(len(NO_HTTP)))
async def test_what_is_no_http_is_refused_in_the_envelope(server: Server, raw: bytes) -> None:
    (answer,) = answers(await server.send(raw + b"\xff\r\n\r\n"))
    refused(answer)


async def test_a_refusal_never_takes_the_place_of_an_earlier_answer(server: Server) -> None:
    server.gate.clear()
    sending = asyncio.create_task(server.send(FAULT, TASK + b"no http\r\n\r\n", LAST))
    await asyncio.sleep(0.05)  # the answers would be out by now
    assert not sending.done()
    server.gate.set()
    raw = await sending
    *asked, last = answers(raw)
    assert [json.loads(body) for _, body in asked] == ASKED[:2]
    refused(last)
    assert raw.count(b"connection: close") == 1


async def test_a_target_is_utf8() -> None:
    async def fine(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["query_string"])

    reached: list[bytes] = []
    target: Any = Utf8Target(fine)
    for raw_path, query in [(b"/%CA%D6", b""), (b"/", b"reason=%CA%D6%B6%AF"), (b"/", b"a=%ED%A0%80")]:
        with pytest.raises(BadRequest, match="URL 不是合法的UTF-8"):
            await target({"type": "http", "raw_path": raw_path, "query_string": query}, None, None)
    await target({"type": "http", "raw_path": b"/%E6%89%8B", "query_string": b"a=%00+%E6%89%8B"}, None, None)
    assert reached == [b"a=%00+%E6%89%8B"]


async def test_a_target_has_few_parameters() -> None:
    target: Any = Utf8Target(AsyncMock())
    names = [b"p%d" % number for number in range(MAX_PARAMETERS + 1)]
    for query in (b"&".join(names), b"&" * MAX_PARAMETERS):
        with pytest.raises(BadRequest, match=f"URL 参数超过 {MAX_PARAMETERS} 个"):
            await target({"type": "http", "raw_path": b"/", "query_string": query}, None, None)
    await target({"type": "http", "raw_path": b"/", "query_string": b"&".join(names[1:])}, None, None)

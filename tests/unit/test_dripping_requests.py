"""Requests that never end: their bytes arrive one by one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from starlette.requests import Request

from api.http.body import read_json
from api.http.errors import BadRequest, answer_to
from tests.unit.http_server import answers, serving
from tests.unit.test_api_protocol import ASKED, FAULT, LAST, Echo, Server

DRIP_S = 0.05


@pytest.fixture
async def hasty() -> AsyncIterator[Server]:
    gate = asyncio.Event()
    gate.set()
    async with serving(Echo(gate), head_s=0.3) as port:
        yield Server(port, gate)


async def drip(port: int, whole: bytes, drops: bytes) -> bytes:
    """The answer while the last bytes of a request arrive one by one, forever."""
    loop = asyncio.get_running_loop()

    async def send() -> None:
        with suppress(ConnectionError):
            while True:
                await loop.sock_sendall(ours, drops)
                await asyncio.sleep(DRIP_S)

    async def receive() -> bytes:
        answer = b""
        with suppress(ConnectionError):  # drops after the end are answered with a reset; a stream would lose the answer
            while piece := await loop.sock_recv(ours, 1 << 16):
                answer += piece
        return answer

    with socket.socket() as ours:
        ours.setblocking(False)
        await loop.sock_connect(ours, ("127.0.0.1", port))
        await loop.sock_sendall(ours, whole)
        sending = asyncio.create_task(send())
        answer = await asyncio.wait_for(receive(), 10)
        sending.cancel()
        await asyncio.wait({sending})
    return answer


@pytest.mark.parametrize("begun", [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "])
async def test_a_head_that_drips_is_cut_off(hasty: Server, begun: bytes) -> None:
    assert await drip(hasty.port, begun, b"a" if begun else b"") == b""


async def test_a_second_head_that_drips_is_cut_off_too(hasty: Server) -> None:
    answer = await drip(hasty.port, FAULT + b"GET / HTTP/1.1\r\nX-A: ", b"a")
    assert [json.loads(body) for _, body in answers(answer)] == ASKED[:1]


async def test_an_answer_may_take_longer_than_a_head(hasty: Server) -> None:
    hasty.gate.clear()
    asked = asyncio.create_task(hasty.ask(FAULT + LAST))
    await asyncio.sleep(0.7)
    hasty.gate.set()
    assert await asked == [ASKED[0], ASKED[2]]


async def read_a_body(scope: Any, receive: Any, send: Any) -> None:
    try:
        await read_json(Request(scope, receive), dict)
    except BadRequest as error:
        await answer_to(error)(scope, receive, send)


@pytest.mark.parametrize("length", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_drips_is_400_and_the_connection_ends(length: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.body.BODY_S", 0.3)
    async with serving(read_a_body) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n\r\n" % length
        answer = await drip(port, head, b"a" if b"Length" in length else b"1\r\na\r\n")
    status, _, rest = answer.partition(b"\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    body = json.loads(rest.partition(b"\r\n\r\n")[2])
    assert body == {"code": 400, "message": "请求参数错误: body 接收超时", "data": None}

"""The bench's own HTTP: messages cut from a stream, a client and a node that understand each other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.bench.node import Node, Put
from tests.bench.wire import Api, Connection, WireError, take

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"data": null}'


def test_a_message_is_taken_when_all_of_it_is_there() -> None:
    for cut in range(len(ANSWER)):
        assert take(bytearray(ANSWER[:cut])) is None
    buffer = bytearray(ANSWER + b"HTTP")
    message = take(buffer)
    assert message is not None
    assert message.body == b'{"data": null}'
    assert buffer == b"HTTP"


def test_a_message_without_a_length_has_no_body() -> None:
    message = take(bytearray(b"GET /health-check HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert message is not None
    assert message.body == b""


def test_headers_are_found_whatever_their_case() -> None:
    message = take(bytearray(b"PUT / HTTP/1.1\r\nx-attempt-token: abc\r\n\r\n"))
    assert message is not None
    assert message.header("X-Attempt-Token") == "abc"
    assert message.header("Token") is None


async def server(answers: list[bytes]) -> tuple[asyncio.Server, list[bytes]]:
    """Gives each request the next answer, on one connection or several; an empty one closes the connection."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                requests.append(head)
                if not (answer := answers.pop(0)):
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0), requests


async def test_calls_reuse_their_connection_and_carry_key_and_token() -> None:
    running, requests = await server([ANSWER, ANSWER])
    async with running:
        api = Api("127.0.0.1", running.sockets[0].getsockname()[1], "the-key")
        reply = await api.call("GET", "/tasks")
        await api.call("GET", "/tasks", token="the-token")
        api.close()
    assert reply.data is None
    assert reply.received >= reply.sent
    assert requests[0].startswith(b"GET /api/v2/tasks HTTP/1.1\r\n")
    assert all(b"Authorization: Bearer the-key\r\n" in request for request in requests)
    assert b"X-Attempt-Token: the-token\r\n" in requests[1]


async def test_any_answer_but_200_is_an_error() -> None:
    running, _ = await server([ANSWER.replace(b"200", b"503")])
    async with running:
        api = Api("127.0.0.1", running.sockets[0].getsockname()[1], "key")
        with pytest.raises(WireError, match="503"):
            await api.call("POST", "/tasks")
        api.close()


async def test_a_connection_closed_before_the_answer_is_an_error() -> None:
    running, _ = await server([b""])
    async with running:
        port = running.sockets[0].getsockname()[1]
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
        with pytest.raises(WireError, match="closed"):
            await asyncio.wait_for(connection.ask(b"GET / HTTP/1.1\r\n\r\n"), 5)
        assert not connection.open


async def test_a_node_accepts_a_dispatch_and_hands_it_on() -> None:
    puts: asyncio.Queue[Put] = asyncio.Queue()
    node = Node("gpu", 1, 1, puts.put_nowait)
    await node.start()
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", node.port)
    content = json.dumps({"input": {"n": 1}, "context": {"taskId": "task_1"}}).encode()
    head = f"PUT /predictions/task_1-1 HTTP/1.1\r\nX-Attempt-Token: t\r\nContent-Length: {len(content)}\r\n\r\n"
    reply = await connection.ask(head.encode() + content)
    answer: dict[str, Any] = json.loads(reply.message.body)
    put = puts.get_nowait()
    connection.close()
    node.stop()
    assert reply.message.head.startswith(b"HTTP/1.1 202")
    assert answer == {"id": "task_1-1", "status": "starting"}
    assert (put.task_id, put.token, put.input) == ("task_1", "t", {"n": 1})
    assert reply.sent <= put.arrived <= reply.received

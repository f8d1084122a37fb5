"""Calls to nodes that answer oddly, slowly, hugely, or with a bait."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.nodes import http as module
from infra.nodes.address import NodeAddress
from infra.nodes.address_policy import AllowList
from infra.nodes.answer import MAX_ANSWER, NodeAnswer
from infra.nodes.client import NodeClient
from infra.nodes.http import NodeUnreachable, OwnShortage
from infra.nodes.own_services import OwnServices
from infra.settings import Settings
from workflows.domain.errors import ForbiddenAddress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def client() -> AsyncIterator[NodeClient]:
    settings = Settings(node_networks="127.0.0.0/8")
    client = NodeClient(AllowList.of_nodes(settings, OwnServices(settings)))
    yield client
    await client.close()


@asynccontextmanager
async def node(serve: Serve, secret: str | None = None) -> AsyncIterator[NodeAddress]:
    """A server whose connections are served, one request each, by `serve`."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
    try:
        yield NodeAddress("127.0.0.1", server.sockets[0].getsockname()[1], secret)
    finally:
        server.close()


def answering(body: bytes, head: str = "", status: int = 200, heard: list[str] | None = None) -> Serve:
    """Answer a request so, and note its head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        if heard is not None:
            heard.append(request)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body)
        await writer.drain()

    return serve


async def test_the_secret_is_shown_and_nothing_compressed_is_asked_for(
    client: NodeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):  # nobody listens there
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    heard: list[str] = []
    async with node(answering(b'{"status": "starting"}', status=202, heard=heard), "s3cret") as address:
        answer = await client.put(address, "task_1-1", {"input": {}}, {"X-Attempt-Token": "token"})
    assert answer == NodeAnswer(202, {"status": "starting"})
    line, *fields = heard[0].split("\r\n")
    assert line == "PUT /predictions/task_1-1 HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["accept-encoding"] == "identity"
    assert headers["x-attempt-token"] == "token"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(client: NodeClient, status: int) -> None:
    heard: list[str] = []
    async with node(answering(b'{"status": "succeeded"}', heard=heard)) as bait:
        head = f"Location: {bait.base}/predictions/task_1-1\r\n"
        async with node(answering(b"", head, status)) as address:
            assert await client.status(address, "task_1-1") == NodeAnswer(status, {})
    assert heard == []


async def test_no_cookie_is_kept(client: NodeClient) -> None:
    heard: list[str] = []
    async with node(answering(b"{}", "Set-Cookie: id=1; Path=/\r\n", heard=heard)) as address:
        for _ in range(2):
            await client.status(address, "task_1-1")
    assert "cookie" not in heard[1].lower()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"starting",
        b"[]",
        b'"starting"',
        b"\xff\xfe",
        b'{"status": []}',
        b'{"status": {}}',
        b'{"status": 7}',
        b'{"status": null}',
        b'{"status": "succeeded", "output": ' + b"9" * 5000 + b"}",
        b"[" * MAX_ANSWER,
        b'{"a":' * (MAX_ANSWER // 5),
        b'{"status": "succeeded", "output": "' + b"x" * MAX_ANSWER + b'"}',
    ],
)
async def test_odd_answers_have_no_state(client: NodeClient, body: bytes) -> None:
    async with node(answering(body)) as address:
        answer = await client.status(address, "task_1-1")
    assert answer == NodeAnswer(200, {})
    assert answer.error is None


async def test_what_is_compressed_all_the_same_is_not_inflated(client: NodeClient) -> None:
    bomb = gzip.compress(b" " * 60_000_000 + b"{}")
    assert len(bomb) < MAX_ANSWER
    async with node(answering(bomb, "Content-Encoding: gzip\r\n")) as address:
        assert await client.status(address, "task_1-1") == NodeAnswer(200, {})


async def test_an_endless_answer_is_cut(client: NodeClient) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    async with node(serve) as address:
        assert await client.status(address, "task_1-1") == NodeAnswer(200, {})
    assert sent < 100 * MAX_ANSWER  # what the sockets in between hold


@pytest.mark.parametrize(
    "drip", [b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"]
)
async def test_a_node_that_drips_is_left_after_a_total_time(
    client: NodeClient, drip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOTAL_S", 0.3)
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(drip)
        try:
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            gone.set()

    async with node(serve) as address, asyncio.timeout(5):
        with pytest.raises(NodeUnreachable, match="TimeoutError"):
            await client.put(address, "task_1-1", {}, {})
        await gone.wait()


async def test_many_slow_nodes_do_not_make_others_look_silent(client: NodeClient) -> None:
    many = 250
    arrived, everybody = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == many:
            everybody.set()
        await everybody.wait()
        await answering(b'{"status": "processing"}')(reader, writer)

    async with node(serve) as address:
        answers = await asyncio.gather(*(client.status(address, f"task_{number}-1") for number in range(many)))
    assert answers == [NodeAnswer(200, {"status": "processing"})] * many


async def test_our_own_shortage_is_not_the_nodes_silence(client: NodeClient) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with node(answering(b"{}")) as address:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))), hard))
        fillers = []
        try:
            while True:
                try:
                    fillers.append(os.dup(0))
                except OSError:
                    break
            with pytest.raises(OwnShortage):
                await client.status(address, "task_1-1")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                os.close(filler)
        assert (await client.status(address, "task_1-1")).status == 200


async def test_nobody_there(client: NodeClient) -> None:
    async with node(answering(b"")) as address:
        pass
    with pytest.raises(NodeUnreachable, match="ConnectorError"):
        await client.cancel(address, "task_1-1")


@pytest.mark.parametrize("ip", ["192.0.2.1", "169.254.169.254", "127.0.0.1%lo"])
async def test_every_call_asks_whether_the_node_may_be_there(client: NodeClient, ip: str) -> None:
    address = NodeAddress(ip, 9000, None)
    calls = (client.put(address, "a-1", {}, {}), client.status(address, "a-1"), client.cancel(address, "a-1"))
    for call in calls:
        with pytest.raises(ForbiddenAddress):
            await call


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("CUDA out of memory", "CUDA out of memory"),
        (" \n ", None),
        ("a\0b\ud800", "ab"),
        ("x" * 501, "x" * 500),
        (["a"], None),
        (7, None),
        (None, None),
    ],
)
async def test_the_reason_of_a_failure_is_text_and_bounded(client: NodeClient, error: Any, shown: str | None) -> None:
    body = json.dumps({"status": "failed", "error": error}).encode()
    async with node(answering(body)) as address:
        assert (await client.status(address, "task_1-1")).error == shown

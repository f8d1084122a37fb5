"""A call whose body comes later than its head: what was true of the head may not be of the body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from infra.db.access import api_keys
from infra.db.access.audit import Actor
from infra.db.session import Database
from tests.conftest import Api, MakeCaller, eventually
from tests.fake_node import FakeNode


class Begun:
    """A call that the API has begun, and whose body it asks for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader, self._writer, self._body = reader, writer, body

    async def status(self) -> int:
        """Send the body. Returns the status of the answer."""
        self._writer.write(self._body)
        answer = json.loads((await asyncio.wait_for(self._reader.read(), 20)).partition(b"\r\n\r\n")[2])
        return int(answer["code"])


@asynccontextmanager
async def begun(caller: Api, path: str, body: dict[str, Any]) -> AsyncIterator[Begun]:
    """A POST without its body. All that comes before a body is done once that is asked for."""
    url, sent = httpx.URL(caller.stack.api_url), json.dumps(body).encode()
    head = f"POST /api/v2{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.key}\r\nConnection: close\r\n"
    more = f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write((head + more).encode())
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
        yield Begun(reader, writer, sent)
    finally:
        writer.close()


async def test_a_node_that_was_nobody_s_at_the_head_is_not_drained(api: Api, make_caller: MakeCaller) -> None:
    stranger, owner = await make_caller("node", "held stranger"), await make_caller("node", "held owner")
    node = FakeNode("held_gpu")
    await node.start()
    drain = {"reason": "not mine", "deadline": 4102444800000}
    try:
        async with begun(stranger, "/gpus/held_gpu/drain", drain) as call:
            await owner.register(node, [648])
            assert await call.status() == 403
        assert (await owner.get("/gpus/held_gpu"))["draining"] is False
        async with begun(owner, "/gpus/held_gpu/drain", drain) as call:
            assert await call.status() == 200
        assert (await owner.get("/gpus/held_gpu"))["draining"] is True
        await api.post("/gpus/held_gpu/undrain")
    finally:
        await node.stop()
        await owner.http.delete("/gpus/held_gpu")


async def test_a_key_that_is_revoked_before_the_body_writes_nothing(api: Api, make_caller: MakeCaller) -> None:
    user = await make_caller("user", "held user")
    assert user.made is not None
    key_id, database = user.made.key_id, Database(api.stack.services.database_url, connections=1)

    async def is_refused() -> bool:
        return (await user.http.get("/monitoring/health")).status_code == 401

    task = {"taskType": 648, "userId": "held user", "app": "tests", "payload": "{}"}
    try:
        async with begun(user, "/tasks", task) as call:
            await database.run(lambda c: api_keys.revoke(c, key_id, Actor(None, "tests", None)))
            await eventually(is_refused)
            assert await call.status() == 401
    finally:
        await database.close()
    assert await api.get("/tasks?userId=held%20user") == []

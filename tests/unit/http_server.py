"""An application behind our protocol, on a socket, and callers that send it bytes."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from uvicorn import Config
from uvicorn.server import ServerState

from api.http import small_reads
from api.http.connections import Limits
from api.http.small_reads import SmallReads

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
BIG = 8 * 1024 * 1024


def answers(raw: bytes) -> list[tuple[int, bytes]]:
    """(status, body) of each answer in a row."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers["content-length"])
        found.append((int(lines[0].split()[1]), raw[:length]))
        raw = raw[length:]
    return found


def maker(app: Any, state: ServerState | None = None, **limits: Any) -> Callable[[], SmallReads]:
    """Makes the protocols of one process."""
    config, make = Config(app, ws="none", log_config=None), small_reads.serving(Limits(**limits))
    return lambda: make(config=config, server_state=state or ServerState(), app_state={})


@asynccontextmanager
async def serving(app: Any, **limits: Any) -> AsyncIterator[int]:
    """An application behind our protocol; its port."""
    state = ServerState()
    make, loop = maker(app, state, **limits), asyncio.get_running_loop()
    listening = await loop.create_server(make, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        while state.connections or state.tasks:
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
        await listening.wait_closed()


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
    """Run the test on asyncio's own loop and on uvloop, which the API runs on."""

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


async def exchange(port: int, *pieces: bytes) -> list[tuple[int, bytes]]:
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
    """Check that an answer is this refusal."""
    assert (answer[0], json.loads(answer[1])) == (code, {"code": code, "message": message, "data": None})


async def keep_sending(writer: asyncio.StreamWriter) -> None:
    """Send until the server ends it."""
    while True:
        writer.write(b"a" * 1000)
        await writer.drain()
        await asyncio.sleep(0.01)

"""An application behind our protocol, on a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from api.http import small_reads
from api.http.connections import Limits
from api.http.small_reads import SmallReads


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

"""A GPU node that does what a test asks for: time and failure must be controlled here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Put:
    """One PUT that the node received."""

    run_id: str
    gpu_id: str
    token: str
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def task_id(self) -> str:
        task_id: str = self.body["context"]["taskId"]
        return task_id


@dataclass
class FakeNode:
    """Answers PUTs with `answer` after `delay` seconds, remembers them, and knows of a run what `known` says."""

    gpu_id: str
    answer: tuple[int, dict[str, Any]] = (202, {"status": "starting"})
    garbled: bytes | None = None  # the answer instead, whatever that is
    delay: float = 0.0
    hold: asyncio.Event | None = None  # no answer before it is set
    known: dict[str, str] = field(default_factory=dict)
    puts: asyncio.Queue[Put] = field(default_factory=asyncio.Queue)
    health: str | None = None  # what it says of itself; it has no such route without
    reason: str | None = None  # why it is not ready
    canceled: list[str] = field(default_factory=list)
    cancel_answer: tuple[int, dict[str, Any]] = (200, {"status": "canceled", "stopped": True})  # the answer to a cancel
    cancel_hold: asyncio.Event | None = None  # no answer to a cancel before it is set
    port: int = 0
    _server: asyncio.Server | None = None
    _beating: asyncio.Task[None] | None = None
    _serving: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen; after `hang_up` on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hang_up(self) -> None:
        """Refuse connections, and beat on."""
        if self._server is not None:
            self._server.close()

    def beat_with(self, beat: Callable[[], Awaitable[Any]], every_s: float = 0.5) -> None:
        async def forever() -> None:
            while True:
                with suppress(httpx.TransportError):  # the API may be away for a while
                    await beat()
                await asyncio.sleep(every_s)

        self._beating = asyncio.create_task(forever())

    def fall_silent(self) -> None:
        if self._beating is not None:
            self._beating.cancel()

    async def stop(self) -> None:
        """Answers that a test still holds back are never given."""
        self.fall_silent()
        self.hang_up()
        for one in self._serving:
            one.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def next_put(self, within: float = 20.0) -> Put:
        return await asyncio.wait_for(self.puts.get(), within)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            method, path, _ = (await reader.readline()).decode().split(" ", 2)
            headers: dict[str, str] = {}
            while (line := (await reader.readline()).decode().strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            status, answer = self._answer(method, path, headers, content)
            await asyncio.sleep(self.delay)
            hold = self.cancel_hold if path.endswith("/cancel") else self.hold
            if hold is not None:
                await hold.wait()
            payload = json.dumps(answer).encode()
            writer.write(
                (self.garbled if method == "PUT" else None)
                or f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + payload
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            return
        finally:
            writer.close()

    def _answer(self, method: str, path: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, Any]]:
        run_id = path.split("/")[2] if path.count("/") > 1 else ""
        if method == "PUT":
            put = Put(run_id, self.gpu_id, headers["x-attempt-token"], json.loads(content), headers)
            self.puts.put_nowait(put)
            return self.answer[0], {"id": run_id, **self.answer[1]}
        if path == "/health-check" and self.health is not None:
            return 200, {"status": self.health, "reason": self.reason}
        if path.endswith("/cancel"):
            self.canceled.append(run_id)
            return self.cancel_answer[0], {"id": run_id, **self.cancel_answer[1]}
        if run_id in self.known:
            return 200, {"id": run_id, "status": self.known[run_id]}
        return 404, {}

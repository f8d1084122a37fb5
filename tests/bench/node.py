"""The GPU nodes of the bench: they speak the node protocol and cost next to nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.bench.wire import Api, Message, Reply, take

BEAT_S = 10.0  # the node protocol's rate


@dataclass(frozen=True)
class Put:
    """A dispatch as it arrived; `arrived` by `time.perf_counter`."""

    gpu_id: str
    task_id: str
    token: str
    input: dict[str, Any]
    arrived: float


Answer = tuple[int, dict[str, Any]]
OnHeld = Callable[[Put], Awaitable[dict[str, Any]]]


class Node:
    """One node: an HTTP server that accepts every dispatch at once and hands it to `on_put`.

    With `on_held` it is as our agent: where a dispatch prefers to wait, it answers with the output that `on_held` has.
    """

    def __init__(
        self,
        gpu_id: str,
        task_type: int,
        slots: int,
        on_put: Callable[[Put], None],
        on_held: OnHeld | None = None,
    ) -> None:
        self.gpu_id = gpu_id
        self.port = 0
        self._task_type = task_type
        self._slots = slots
        self._on_put = on_put
        self._on_held = on_held
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Requests(self._answer), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def register(self, api: Api) -> Reply:
        """Register this node."""
        return await api.call(
            "POST", "/gpus/register", registration(self.gpu_id, self.port, self._task_type, self._slots)
        )

    async def _answer(self, request: Message, arrived: float) -> Answer:
        method, path, _ = request.head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        if method != "PUT":
            return 200, {"status": "READY"}
        body = json.loads(request.body)
        token = request.header("X-Attempt-Token") or ""
        put = Put(self.gpu_id, body["context"]["taskId"], token, body["input"], arrived)
        id = path.removeprefix("/predictions/")
        if self._on_held is not None and request.header("Prefer"):
            return 200, {"id": id, "status": "succeeded", "output": await self._on_held(put)}
        self._on_put(put)
        return 202, {"id": id, "status": "starting"}


def registration(gpu_id: str, port: int, task_type: int, slots: int) -> dict[str, Any]:
    """The body of a registration."""
    return {
        "gpuId": gpu_id,
        "hostname": "bench",
        "ip": "127.0.0.1",
        "port": port,
        "supportedTaskTypes": [task_type],
        "supportedTaskPriority": "NORMAL",
        "version": "1.0.0",
        "maxConcurrentTasks": slots,
        "metadata": {"gpuModel": "none"},
    }


async def say_processing(api: Api, put: Put) -> Reply:
    """Report that the work has begun, as our agent does."""
    body = {"status": "PROCESSING", "gpuId": put.gpu_id, "message": "任务开始执行", "progress": 0}
    return await api.call("POST", f"/tasks/{put.task_id}/status", body, token=put.token)


async def report(api: Api, put: Put) -> Reply:
    """Report the result of a dispatch. Returns once the API has accepted it."""
    return await api.call("POST", f"/tasks/{put.task_id}/result", {"result": '{"ok": true}'}, token=put.token)


class Beats:
    """Beats of many nodes, spread evenly over the ten seconds in which each beats once."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._ids: list[str] = []
        self._running: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self.took: list[float] = []  # s of each answered beat
        self.failed: list[str] = []

    def add(self, gpu_id: str) -> None:
        """Let one more node beat."""
        self._ids.append(gpu_id)

    def start(self) -> None:
        """Beat until `stop`."""
        self._running = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Stop beating, and wait for the last answers."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, *self._calls, return_exceptions=True)
            self._running = None

    async def _beat(self) -> None:
        turn, due = 0, time.perf_counter()
        while True:
            if self._ids:
                call = asyncio.create_task(self._one(self._ids[turn % len(self._ids)]))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            turn += 1
            due += BEAT_S / max(len(self._ids), 1)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def _one(self, gpu_id: str) -> None:
        try:
            self.took.append((await self._api.call("POST", f"/gpus/{gpu_id}/heartbeat")).took)
        except Exception as error:  # noqa: BLE001  counted, and reported with the beats
            self.failed.append(str(error))


class _Requests(asyncio.Protocol):
    """One connection of an orchestrator to a node."""

    def __init__(self, answer: Callable[[Message, float], Awaitable[Answer]]) -> None:
        self._answer = answer
        self._answering: set[asyncio.Task[None]] = set()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        arrived = time.perf_counter()
        self._buffer += data
        while (request := take(self._buffer)) is not None:
            task = asyncio.create_task(self._write(request, arrived))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _write(self, request: Message, arrived: float) -> None:
        status, body = await self._answer(request, arrived)
        content = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        assert self._transport is not None
        self._transport.write(head.encode() + content)

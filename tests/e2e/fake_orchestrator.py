"""An orchestrator that only listens: it records what a node agent sends, and answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "node-key-of-the-tests"
DEADLINE = 30.0  # seconds that a test waits for something before it fails


@dataclass(frozen=True)
class Call:
    """One request of a node."""

    kind: str  # register, heartbeat, gpu, status, result, deregister
    subject: str  # gpuId or taskId
    body: Any
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)  # s


@dataclass
class FakeOrchestrator:
    """Records every call; `scripted` answers come first, by kind, then 200."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    names_registrations: bool = True
    gpu_status: str = "ACTIVE"  # what is said of every node
    scripted: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, kind: str, subject: str | None = None) -> list[Call]:
        """The calls of a kind so far, about one subject or all."""
        return [call for call in self.calls if call.kind == kind and subject in (None, call.subject)]

    def script(self, kind: str, *statuses: int, headers: dict[str, str] | None = None) -> None:
        """Answer the next calls of a kind with these statuses."""
        self.scripted.setdefault(kind, []).extend((status, headers or {}) for status in statuses)

    def statuses(self, task_id: str) -> list[str]:
        """The statuses reported of a task, a result counting as COMPLETED, repetitions dropped."""
        reported = [
            "COMPLETED" if call.kind == "result" else call.body["status"]
            for call in self.calls
            if call.kind in ("status", "result") and call.subject == task_id
        ]
        return [status for number, status in enumerate(reported) if number == 0 or reported[number - 1] != status]

    async def until(self, holds: Callable[[], bool], what: str = "what the test waits for") -> None:
        """Wait until something is true of the calls."""
        try:
            async with asyncio.timeout(DEADLINE), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            counts = Counter(call.kind for call in self.calls)
            raise AssertionError(f"{what}: did not happen; calls so far: {dict(counts)}") from None

    async def reported(self, kind: str, task_id: str) -> Call:
        """The first call of a kind about a task, waited for."""
        await self.until(lambda: bool(self.of(kind, task_id)), f"{kind} of {task_id}")
        return self.of(kind, task_id)[0]

    async def ended(self, task_id: str, *statuses: str) -> None:
        """Wait until exactly these statuses were reported of a task."""
        await self.until(lambda: self.statuses(task_id) == list(statuses), f"{task_id}: {statuses}")

    async def answer(self, kind: str, request: Request) -> Response:
        """Record a call and answer it."""
        raw = await request.body()
        subject = request.path_params.get("id") or json.loads(raw)["gpuId"]
        async with self._changed:
            self.calls.append(Call(kind, subject, json.loads(raw) if raw else None, dict(request.headers)))
            self._changed.notify_all()
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _envelope(401, {})
        script = self.scripted.get(kind)
        return self._envelope(kind, *(script.pop(0) if script else (200, {})))

    def _envelope(self, kind: str, status: int, headers: dict[str, str]) -> Response:
        if (kind, status) == ("register", 200) and self.names_registrations:
            headers = {"X-Registration": f"registration-{len(self.of('register'))}", **headers}
        return _envelope(status, headers, {"status": self.gpu_status} if kind == "gpu" else None)


@contextlib.asynccontextmanager
async def fake_orchestrator(certificate: Path | None = None) -> AsyncIterator[FakeOrchestrator]:
    """A listening one; with TLS where it has a certificate (PEM, with its key)."""
    fake = FakeOrchestrator()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        fake.url = f"{'https' if certificate else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        server = _Server(
            uvicorn.Config(
                _app(fake), lifespan="off", ws="none", log_config=None, access_log=False, ssl_certfile=certificate
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield fake
        finally:
            server.should_exit = server.force_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are pytest's


def _app(fake: FakeOrchestrator) -> Starlette:
    def route(kind: str, path: str, method: str = "POST") -> Route:
        async def endpoint(request: Request) -> Response:
            return await fake.answer(kind, request)

        return Route(f"/api/v2{path}", endpoint, methods=[method])

    return Starlette(
        routes=[
            route("register", "/gpus/register"),
            route("heartbeat", "/gpus/{id}/heartbeat"),
            route("gpu", "/gpus/{id}", "GET"),
            route("deregister", "/gpus/{id}", "DELETE"),
            route("status", "/tasks/{id}/status"),
            route("result", "/tasks/{id}/result"),
        ]
    )


def _envelope(status: int, headers: dict[str, str], data: Any = None) -> Response:
    message = "success" if status == 200 else f"scripted {status}"
    return JSONResponse({"code": status, "message": message, "data": data}, status, headers)

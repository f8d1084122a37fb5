"""Nodes that go wrong, each in a way of its own: HTTP servers written without our agent, which register and beat."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
from aiohttp import web

from tests.faults.work import OTHER_TYPE, TASK_TYPE, digest

SLOTS = 2
WORK_S = 0.05
BEAT_S = 0.5
AGAIN_S = 0.3
TOO_LARGE = 70_000  # bytes: more than the orchestrator reads of an answer

BROKEN = "CUDA error: device-side assert triggered"
FLAKY = "uncorrectable ECC error"
REJECTED = "this node takes no such input"


@dataclass(frozen=True)
class Run:
    """One attempt as the node got it."""

    run_id: str
    task_id: str
    token: str
    input: Mapping[str, Any]


Behaviour = Callable[["BadNode", Run], Awaitable[web.StreamResponse]]


@dataclass
class BadNode:
    """Answers the first PUT of an attempt by `behave`, and every later one as the first."""

    gpu_id: str
    task_type: int
    behave: Behaviour
    http: httpx.AsyncClient
    chance: Random
    runs: dict[str, str] = field(default_factory=dict)  # run id -> the status that a question is answered
    wrong_answers: Iterator[Callable[[], web.StreamResponse]] = field(default_factory=lambda: itertools.cycle(WRONG))
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    async def work(self) -> None:
        """Serve, register and beat until cancelled."""
        app = web.Application(client_max_size=2**21)
        app.router.add_put("/predictions/{id}", self._put)
        app.router.add_get("/predictions/{id}", self._get)
        app.router.add_post("/predictions/{id}/cancel", self._cancel)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            assert site._server is not None
            await self._live(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        finally:
            for task in self._background:
                task.cancel()
            await runner.cleanup()

    async def _live(self, port: int) -> None:
        status = 404
        while True:
            try:
                if status == 404:
                    await self.http.post("/gpus/register", json=self._registration(port))
                status = (await self.http.post(f"/gpus/{self.gpu_id}/heartbeat")).status_code
            except httpx.HTTPError:
                pass  # the API is away for a moment
            await asyncio.sleep(BEAT_S)

    def _registration(self, port: int) -> dict[str, object]:
        return {
            "gpuId": self.gpu_id,
            "hostname": "rented",
            "ip": "127.0.0.1",
            "port": port,
            "supportedTaskTypes": [self.task_type],
            "supportedTaskPriority": "NORMAL",
            "version": "1.0.0",
            "maxConcurrentTasks": SLOTS,
        }

    async def _put(self, request: web.Request) -> web.StreamResponse:
        run_id = request.match_info["id"]
        if run_id in self.runs:
            return accepted(run_id)
        body = await request.json()
        return await self.behave(
            self, Run(run_id, body["context"]["taskId"], request.headers["X-Attempt-Token"], body["input"])
        )

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if (status := self.runs.get(request.match_info["id"])) is None:
            return web.json_response({}, status=404)
        return web.json_response({"id": request.match_info["id"], "status": status})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"id": request.match_info["id"], "status": "canceled", "stopped": True})

    def accept(self, run: Run, kind: str, body: Mapping[str, object], status: str = "failed") -> web.StreamResponse:
        """Take it on, and report that end of it after a moment."""
        self.runs[run.run_id] = "processing"
        task = asyncio.create_task(self._report(run, kind, body, status))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return accepted(run.run_id)

    async def _report(self, run: Run, kind: str, body: Mapping[str, object], status: str) -> None:
        await asyncio.sleep(WORK_S)
        self.runs[run.run_id] = status
        answer = 0
        while answer != 200 and not 400 <= answer <= 404:
            try:
                headers = {"X-Attempt-Token": run.token}
                answer = (await self.http.post(f"/tasks/{run.task_id}/{kind}", json=body, headers=headers)).status_code
            except httpx.HTTPError:
                answer = 0
            await asyncio.sleep(AGAIN_S)

    def says(self, status: str, message: str, **more: object) -> dict[str, object]:
        """The body of a report."""
        return {"status": status, "gpuId": self.gpu_id, "message": message, **more}


def accepted(run_id: str) -> web.StreamResponse:
    """The answer of a node that runs it."""
    return web.json_response({"id": run_id, "status": "starting"}, status=202)


async def breaks(node: BadNode, run: Run) -> web.StreamResponse:
    """Fails everything that it gets."""
    return node.accept(run, "status", node.says("FAILED", BROKEN))


async def breaks_half(node: BadNode, run: Run) -> web.StreamResponse:
    """Fails every other task, by chance; input that goes wrong it always fails."""
    if "goes" in run.input or node.chance.random() < 0.5:
        return node.accept(run, "status", node.says("FAILED", FLAKY))
    result = f'{{"digest":"{digest(run.input["n"])}"}}'
    return node.accept(run, "result", {"result": result}, "succeeded")


async def rejects(node: BadNode, run: Run) -> web.StreamResponse:
    """Says of every input that it can never work."""
    return web.json_response({"status": "failed", "error": REJECTED}, status=422)


async def rejects_later(node: BadNode, run: Run) -> web.StreamResponse:
    """Says so in a report."""
    return node.accept(run, "status", node.says("FAILED", REJECTED, rejected=True))


async def hands_back(node: BadNode, run: Run) -> web.StreamResponse:
    """Takes everything, and begins nothing."""
    return node.accept(run, "status", node.says("QUEUED", "draining"), "canceled")


async def is_never_ready(node: BadNode, run: Run) -> web.StreamResponse:
    """Beats, and takes nothing."""
    return web.json_response({"detail": "the disk of /scratch is full"}, status=503)


async def answers_wrongly(node: BadNode, run: Run) -> web.StreamResponse:
    """Some other service, or a node of another protocol."""
    return next(node.wrong_answers)()


WRONG: tuple[Callable[[], web.StreamResponse], ...] = (
    lambda: web.Response(text="<html><body>It works!</body></html>", content_type="text/html"),
    lambda: web.Response(status=204),
    lambda: web.Response(status=302, headers={"Location": "/login"}),
    lambda: web.Response(status=500, text="Internal Server Error"),
    lambda: web.json_response({"status": "succeeded", "output": "x" * TOO_LARGE}),
)

# Two that reject the same work would be believed (node protocol): each of them has a type of its own.
KINDS: dict[str, tuple[int, Behaviour]] = {
    "broken": (TASK_TYPE, breaks),
    "broken_by_half": (TASK_TYPE, breaks_half),
    "rejecting": (TASK_TYPE, rejects),
    "never_ready": (TASK_TYPE, is_never_ready),
    "rejecting_later": (OTHER_TYPE, rejects_later),
    "handing_back": (OTHER_TYPE, hands_back),
    "answering_wrongly": (OTHER_TYPE, answers_wrongly),
}


def all_of_them(http: httpx.AsyncClient, chance: Random) -> list[BadNode]:
    """One node of each kind, named after it."""
    return [BadNode(name, task_type, behave, http, chance) for name, (task_type, behave) in KINDS.items()]

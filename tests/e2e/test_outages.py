"""Postgres, Temporal or the API away for several graces, or hanging: 503 or 200, never lost, no node OFFLINE."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import TLS, Api, MakeNode, eventually, fleet, frontend
from tests.e2e.inside import is_started, steps_of
from tests.fake_node import FakeNode, Put
from tests.stack_settings import GRACE_S
from workers.stack.part import Part
from workers.stack.stack import Stack

READS = ("/monitoring/overview", "/tasks", "/gpus", "/monitoring/alerts", "/cluster/status")
LONG_S = 3 * GRACE_S  # an outage in which every node would have gone OFFLINE
BOUND_S = 10.0  # no call waits longer, whatever has happened
TEMPORAL_S = 5.0  # a call waits 2 s for Temporal; the rest is for a machine that is busy
SOON_S = 2.0  # once it is known to be away, on a machine that is busy
SLOW_S = 60.0  # what may have to wait for the reconciler


@dataclass
class Watch:
    """Every answer of the API: 200, or 503 that says when to come again."""

    statuses: set[int] = field(default_factory=set)
    slowest_s: float = 0.0

    async def see(self, response: httpx.Response) -> None:
        await response.aread()
        self.statuses.add(response.status_code)
        self.slowest_s = max(self.slowest_s, response.elapsed.total_seconds())
        assert response.status_code in (200, 503), response.text
        if response.status_code == 503:
            assert int(response.headers["Retry-After"]) >= 1
            assert (response.json()["code"], response.json()["data"]) == (503, None)


@pytest.fixture
async def watch() -> Watch:
    return Watch()


@pytest.fixture
async def caller(stack: Stack, watch: Watch) -> AsyncIterator[Api]:
    async with frontend(stack) as api:
        api.http.event_hooks["response"].append(watch.see)
        yield api


@pytest.fixture
async def make_node(caller: Api) -> AsyncIterator[MakeNode]:
    async with fleet(caller) as make:
        yield make


@asynccontextmanager
async def stopped(stack: Stack, name: str, number: signal.Signals | None = None) -> AsyncIterator[Part]:
    """The part is stopped, by a signal of its own or this one, and started again whatever happens."""
    part = stack.part(name)
    await part.stop(number)
    try:
        yield part
    finally:
        part.start()
        await part.until_ready(30)


@asynccontextmanager
async def without(stack: Stack, name: str) -> AsyncIterator[Part]:
    """The same until the API says that all is there again."""
    async with stopped(stack, name) as part:
        yield part
    await whole_again(stack, part)


@asynccontextmanager
async def paused(stack: Stack, name: str) -> AsyncIterator[Part]:
    """The part hangs: it holds its connections and answers nothing."""
    part = stack.part(name)
    signal_all(part, signal.SIGSTOP)
    try:
        yield part
    finally:
        signal_all(part, signal.SIGCONT)
        await whole_again(stack, part)


def signal_all(part: Part, number: signal.Signals) -> None:
    """The process and its children: those of Postgres are sessions of their own."""
    process = psutil.Process(part.pid)
    for one in (process, *process.children(recursive=True)):
        one.send_signal(number)


async def whole_again(stack: Stack, part: Part) -> None:
    part.start()  # where the test has stopped it
    await part.until_ready(30)

    async def is_ready() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=20, verify=TLS) as http:
            try:
                return (await http.get(f"{stack.api_url}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

    await eventually(is_ready, within=40)


class Work:
    """A beating node with one task that runs and one that waits."""

    def __init__(self, api: Api, make_node: MakeNode, task_type: int) -> None:
        self.api = api
        self.type = task_type
        self._make_node = make_node
        self.created: list[str] = []
        self.node: FakeNode
        self.worker: int | None
        self.running: Put

    async def begin(self) -> None:
        self.node = await self._make_node(f"outage_{self.type}", [self.type])
        self.created = [await self.api.create(self.type)]
        self.running = await self.node.next_put()
        await self.api.until(self.created[0], "PROCESSING")
        self.created.append(await self.api.create(self.type))
        self.worker = self.api.stack.part("worker").pid

    async def end(self) -> None:
        """Every task completes, the one that ran on the attempt that it had; no node went OFFLINE or was FAULTY."""
        todo = set(self.created)
        put: Put | None = self.running
        while todo:
            put = put or await self.node.next_put(SLOW_S)
            await self.api.succeed(put, {"n": 1})
            todo.discard(put.task_id)
            put = None
        for task_id in self.created:
            task = await self.api.until(task_id, "COMPLETED", within=SLOW_S)
            assert (task["gpuId"], task["retryCount"]) == (self.node.gpu_id, 0)
        gpu = await self.api.get(f"/gpus/{self.node.gpu_id}")
        assert (gpu["status"], gpu["failureCount"], gpu["taskFailureCount"]) == ("ACTIVE", 0, 0)
        assert await self.api.alerts(self.node.gpu_id) == []
        assert self.api.stack.part("worker").pid == self.worker  # it has gone on by itself


async def status_of(api: Api, method: str, path: str, **options: Any) -> int:
    return (await api.http.request(method, path, **options)).status_code


async def create_raw(api: Api, task_type: int) -> httpx.Response:
    body = {"taskType": task_type, "userId": "user_001", "app": "tests", "payload": "{}"}
    return await api.http.post("/tasks", json=body)


async def test_postgres_away(stack, caller, make_node, watch):
    work = Work(caller, make_node, 701)
    await work.begin()
    async with without(stack, "postgres"):
        for path in READS:
            assert await status_of(caller, "GET", path) == 503
        assert (await create_raw(caller, work.type)).status_code == 503
        assert await status_of(caller, "POST", f"/gpus/{work.node.gpu_id}/heartbeat") == 503
        await asyncio.sleep(LONG_S)  # the outage
    work.created.append(await caller.create(work.type))
    await work.end()
    assert watch.slowest_s < BOUND_S


async def test_postgres_hangs(stack, caller, make_node, watch):
    """More calls at once than there are connections: each is answered, and afterwards all connections are back."""
    work = Work(caller, make_node, 702)
    await work.begin()
    async with paused(stack, "postgres"):
        calls = [status_of(caller, "GET", path) for path in READS * 8]
        assert set(await asyncio.gather(*calls)) == {503}
        assert watch.slowest_s < BOUND_S
        began = time.monotonic()
        assert set([await status_of(caller, "GET", "/gpus") for _ in range(3)]) == {503}
        assert time.monotonic() - began < BOUND_S  # one of them may be the one that tries
    assert set(await asyncio.gather(*(status_of(caller, "GET", path) for path in READS * 8))) == {200}
    work.created.append(await caller.create(work.type))
    await work.end()


@pytest.mark.parametrize(("trouble", "task_type", "unserved_type"), [(without, 703, 709), (paused, 704, 710)])
async def test_temporal_away(stack, caller, make_node, watch, temporal, trouble, task_type, unserved_type):
    """Tasks are created and reports accepted; what Temporal missed it learns afterwards."""
    work = Work(caller, make_node, task_type)
    await work.begin()
    async with trouble(stack, "temporal"):
        for _ in range(4):  # after four waits the API knows that it is away
            work.created.append(await caller.create(task_type))
        began = time.monotonic()
        unheard = [await caller.create(task_type) for _ in range(8)]
        assert time.monotonic() - began < 2 * SOON_S  # not 8 times 2 s
        unserved = await caller.create(unserved_type)  # no node runs it, so nothing but the reconciler can start it
        await caller.succeed(work.running, {"n": 1})
        assert await status_of(caller, "POST", "/monitoring/check") == 503
        for path in READS:
            assert await status_of(caller, "GET", path) == 200
        await asyncio.sleep(GRACE_S)  # the outage
        assert await status_of(caller, "POST", "/monitoring/health/check") == 503
    work.created += unheard
    await eventually(lambda: checks(caller), within=SLOW_S)
    await work.end()
    for task_id in unheard:
        assert await steps_of(temporal, task_id)
    await eventually(lambda: is_started(temporal, unserved), within=SLOW_S)
    await caller.post(f"/tasks/{unserved}/cancel")
    assert watch.slowest_s < TEMPORAL_S


async def checks(api: Api) -> bool:
    return await status_of(api, "POST", "/monitoring/check") == 200


async def test_the_api_away(stack, caller, make_node):
    work = Work(caller, make_node, 705)
    await work.begin()
    async with without(stack, "api"):
        await asyncio.sleep(LONG_S)  # the outage
    await eventually(lambda: is_heard(caller, work.node.gpu_id))
    await work.end()


async def is_heard(api: Api, gpu_id: str) -> bool:
    return bool((await api.get(f"/gpus/{gpu_id}"))["status"] == "ACTIVE")


async def test_a_redis_that_hangs_is_waited_for_once(stack, caller, make_node):
    node = await make_node("hung_redis", [999])
    async with paused(stack, "redis"):
        began = time.monotonic()
        for _ in range(20):
            await caller.post(f"/gpus/{node.gpu_id}/heartbeat")
        assert time.monotonic() - began < 20 * 0.5 / 2  # each alone would wait 0.5 s


async def test_sigterm_lets_the_api_finish_its_requests(stack, caller, make_node):
    """The request hangs in Postgres while the API gets a SIGTERM; its answer comes all the same."""
    await make_node("drained", [706])
    api = stack.part("api")
    async with paused(stack, "postgres") as postgres:
        request = asyncio.create_task(create_raw(caller, 706))
        await asyncio.sleep(0.3)  # until it is there, which nothing shows
        end = asyncio.create_task(api.stop())
        await asyncio.sleep(0.5)
        signal_all(postgres, signal.SIGCONT)
        answer = await request
        await end
        api.start()
    assert answer.status_code == 200
    await caller.until(answer.json()["data"]["taskId"], "PROCESSING", within=SLOW_S)


async def test_sigterm_lets_the_worker_finish_its_activities(stack, caller, make_node):
    """The node answers the dispatch after the worker got a SIGTERM; its acceptance is written all the same."""
    node = await make_node("drained_2", [708])
    node.hold = asyncio.Event()
    task_id = await caller.create(708)
    put = await node.next_put()
    worker = stack.part("worker")
    end = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.3)  # until it has the signal, which nothing shows
    node.hold.set()
    try:
        await end
        assert (await caller.get(f"/tasks/{task_id}"))["status"] == "PROCESSING"
    finally:
        worker.start()
        await worker.until_ready(30)
    await caller.succeed(put, {"n": 1})
    await caller.until(task_id, "COMPLETED", within=SLOW_S)


async def test_programs_started_during_an_outage_wait_for_its_end(stack, caller, make_node):
    """A worker that starts without Temporal and an API that starts without Postgres: neither gives up."""
    work = Work(caller, make_node, 707)
    await work.begin()
    for name, service in (("worker", "temporal"), ("api", "postgres")):
        program = stack.part(name)
        await program.stop()
        async with stopped(stack, service):
            program.start()
            started = await eventually(partial(pid_of, program))
            await asyncio.sleep(GRACE_S)  # the outage
            assert program.pid == started
        await program.until_ready(30)
        assert program.pid == started
    work.worker = stack.part("worker").pid
    await work.end()


async def pid_of(part: Part) -> int | None:
    return part.pid

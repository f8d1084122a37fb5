"""Redis killed, away for a while, or hanging: nothing acknowledged is lost, every call answers, beats still count."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from tests.conftest import TLS, Api, MakeNode, eventually, fleet, frontend
from tests.stack_settings import GRACE_S
from workers.stack.part import Part
from workers.stack.stack import Stack

READS = ("/monitoring/overview", "/monitoring/metrics", "/monitoring/health/system", "/cluster/status", "/gpus")
PROMPT_S = 2.0  # every answer, whatever Redis does; on a machine that is busy


@dataclass
class Watch:
    """Every answer of the API while Redis is in trouble."""

    statuses: set[int] = field(default_factory=set)
    slowest_s: float = 0.0

    async def see(self, response: httpx.Response) -> None:
        await response.aread()
        self.statuses.add(response.status_code)
        self.slowest_s = max(self.slowest_s, response.elapsed.total_seconds())


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


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Part]:
    """Running again after the test, whatever that did to it."""
    part = stack.part("redis")
    yield part
    part.kill(signal.SIGCONT)
    part.start()
    await part.until_ready(30)
    await eventually(lambda: is_ready(stack))


async def is_ready(stack: Stack) -> bool:
    async with httpx.AsyncClient(trust_env=False, verify=TLS) as http:
        return (await http.get(f"{stack.api_url}/readyz")).status_code == 200


async def is_unready(stack: Stack) -> bool:
    return not await is_ready(stack)


class Work:
    """A node with work under way; the same again and again while Redis is in trouble."""

    def __init__(self, api: Api, make_node: MakeNode, task_type: int) -> None:
        self._api = api
        self._make_node = make_node
        self._type = task_type
        self._acknowledged: dict[str, Any] = {}  # result by task id

    async def begin(self) -> None:
        self._node = await self._make_node(f"redis_{self._type}", [self._type])
        self._running = await self._one()

    async def go_on(self) -> None:
        """End the task that runs while another one waits, and begin that one."""
        waiting = await self._api.create(self._type)
        result = {"n": len(self._acknowledged)}
        await self._api.succeed(self._running, result)
        self._acknowledged[self._running.task_id] = result
        self._running = await self._node.next_put()
        assert self._running.task_id == waiting
        await self._api.say(self._running, "PROCESSING", progress=10)

    async def outlive_two_graces(self) -> None:
        """Only beats keep the node ACTIVE; each of them moves its lastHeartbeat."""
        began = (await self._gpu())["lastHeartbeat"]

        async def later() -> bool:
            gpu = await self._gpu()
            assert gpu["status"] == "ACTIVE"
            return bool(gpu["lastHeartbeat"] > began + 2000 * GRACE_S)

        await eventually(later)

    async def end(self) -> None:
        """All that was acknowledged is there."""
        await self.go_on()
        for task_id, result in self._acknowledged.items():
            await self._api.until(task_id, "COMPLETED")
            found = (await self._api.get(f"/tasks/{task_id}/result"))["result"]
            assert found == result | {"gpuId": self._node.gpu_id}
        assert (await self._gpu())["currentTasks"] == 1

    async def _one(self) -> Any:
        await self._api.create(self._type)
        return await self._node.next_put()

    async def _gpu(self) -> Any:
        (gpu,) = await self._api.get(f"/gpus/by-task-type/{self._type}")
        return gpu


async def test_killed_and_replaced(caller, make_node, redis, watch):
    work = Work(caller, make_node, 501)
    await work.begin()
    for _ in range(3):
        pid = redis.pid
        redis.kill()
        await work.go_on()
        await redis.until_ready(20)
        assert redis.pid != pid
        await work.go_on()
    await work.end()
    assert watch.statuses == {200}
    assert watch.slowest_s < PROMPT_S


@pytest.mark.parametrize(("trouble", "task_type"), [("away", 502), ("hanging", 503)])
async def test_in_trouble_for_a_while(caller, make_node, redis, watch, stack, trouble, task_type):
    work = Work(caller, make_node, task_type)
    await work.begin()
    if trouble == "away":
        await redis.stop()
    else:
        redis.kill(signal.SIGSTOP)
    await eventually(lambda: is_unready(stack))
    await work.go_on()
    silent = await make_node(f"redis_silent_{task_type}", [999])
    silent.fall_silent()
    await asyncio.gather(work.outlive_two_graces(), caller.gpu_until(silent.gpu_id, "OFFLINE"))
    await caller.post(f"/gpus/{silent.gpu_id}/heartbeat")
    assert (await caller.get(f"/gpus/{silent.gpu_id}"))["status"] == "ACTIVE"

    for path in READS:
        await caller.get(path)
    await caller.post("/monitoring/check")
    await work.end()
    assert watch.statuses == {200}
    assert watch.slowest_s < PROMPT_S


async def test_nothing_in_redis_stays_for_ever(stack, make_node):
    await make_node("redis_ages", [952])
    async with Redis.from_url(stack.services.redis_url, decode_responses=True) as client:
        await eventually(lambda: client.exists("gpu-orchestrator:beat:redis_ages"))
        assert [key async for key in client.scan_iter() if await client.ttl(key) == -1] == []

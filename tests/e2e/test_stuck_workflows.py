"""Workflow code that is changed without a guard, or raises: accepted results are collected, and an alert names it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from tests.begun import begun
from tests.conftest import Api, MakeNode, eventually, fleet, frontend, thrown_away
from tests.e2e.inside import select
from tests.stack_settings import stack_settings
from workers.stack import programs, temporal
from workers.stack.logs import console
from workers.stack.part import Part
from workers.stack.stack import Stack

TYPE = 611
STUCK_S = 60.0
NAMED_AFTER = "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute"
"""Failures in a row after which the server calls a workflow stuck."""
TRIES_FOR = "history.defaultWorkflowTaskTimeout"
"""The worker reports only the first failure of a step; each later one takes this long."""

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class Shop:
    """A stack whose worker can be replaced by a careless one, and its own put back."""

    stack: Stack
    api: Api
    temporal: Client
    careless: Callable[[str], AbstractAsyncContextManager[None]]

    async def health(self) -> str:
        return str((await self.api.get("/monitoring/health"))["overall_health"])

    async def is_degraded(self) -> bool:
        return await self.health() == "DEGRADED"

    async def calm_down(self) -> None:
        """Let it look as if nothing had been found stuck for a while."""
        await select(
            self.stack,
            "WITH done AS (UPDATE monitor_reports SET at = at - interval '1 h' WHERE name = 'stuck' RETURNING 1)"
            " SELECT * FROM done",
        )

    async def status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        return (await self.temporal.get_workflow_handle(workflow_id).describe()).status

    async def reasons(self, task_id: str) -> list[str]:
        """The reasons of the notes in its timeline."""
        events = await self.api.get(f"/tasks/{task_id}/events")
        return [event["reason"] for event in events if event["from"] == event["to"]]


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    settings = stack_settings(begun(tmp_path_factory.mktemp("shop")), heartbeat_timeout=40, monitor_interval=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(temporal.DYNAMIC_CONFIG, NAMED_AFTER, "2")
        patch.setitem(temporal.DYNAMIC_CONFIG, TRIES_FOR, '"3s"')
        made = Stack(settings, nodes=0)
    async with thrown_away(made) as stack, frontend(stack) as api:
        env = programs.environment(stack.settings, stack.services, stack.data_dir, stack.api_key.secret)

        @asynccontextmanager
        async def careless(change: str) -> AsyncIterator[None]:
            await stack.part("worker").stop()
            command = (sys.executable, "-m", "tests.e2e.careless_worker", change)
            spec = replace(stack.part("worker").spec, name=change, argv=command, env=env)
            worker = Part(spec, stack.data_dir, console())
            worker.start()
            try:
                await worker.until_ready(30)
                yield
            finally:
                await worker.stop()
                stack.part("worker").start()
                await stack.part("worker").until_ready(30)

        yield Shop(stack, api, await Client.connect(stack.services.temporal_address), careless)


@pytest.fixture
async def make_node(shop: Shop) -> AsyncIterator[MakeNode]:
    async with fleet(shop.api) as make:
        yield make


async def test_a_change_without_a_guard(shop, make_node):
    api = shop.api
    node = await make_node("careless", [TYPE], maxConcurrentTasks=4)
    *done, failing = [await api.create(TYPE, maxRetries=1) for _ in range(4)]
    puts = {put.task_id: put for put in [await node.next_put() for _ in range(4)]}
    for task_id in puts:
        await api.until(task_id, "PROCESSING")
    async with shop.careless("sleeps"):
        for task_id in done:
            await api.succeed(puts[task_id], {"n": 1})
        await api.say(puts[failing], "FAILED", "boom")
        for task_id in done:
            await api.until(task_id, "COMPLETED", within=STUCK_S)
        await eventually(shop.is_degraded)
        (alert,) = await api.alerts("工作流任务反复失败")
        assert (alert["level"], alert["status"]) == ("CRITICAL", "ACTIVE")
        assert "NonDeterministicError" in alert["message"]
        assert "task-" in alert["message"]
        again = await node.next_put(STUCK_S)  # a new run goes on with the retry, with the code as it is now
        assert again.run_id == f"{failing}-2"
        await api.succeed(again, {"n": 2})
        await api.until(failing, "COMPLETED", within=STUCK_S)
        for task_id in puts:
            await eventually(partial(completed, shop, task_id), within=STUCK_S)
            assert len(await shop.reasons(task_id)) <= 2
    await shop.calm_down()
    assert await shop.health() == "HEALTHY"
    assert len(await api.alerts("工作流任务反复失败")) == 1


async def test_a_bug_in_every_workflow(shop, make_node):
    """No monitor runs and no new run gets further: what was accepted is collected; the rest waits for the repair."""
    api = shop.api
    node = await make_node("broken", [TYPE + 1], maxConcurrentTasks=2)
    task_id = await api.create(TYPE + 1)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    async with shop.careless("raises"):
        await api.succeed(put, {"n": 1})
        await api.until(task_id, "COMPLETED", within=STUCK_S)
        await eventually(shop.is_degraded)
        unheard = await api.create(TYPE + 1)
    put = await node.next_put(STUCK_S)
    assert put.task_id == unheard
    await api.succeed(put, {})
    for one in (task_id, unheard):
        await eventually(partial(completed, shop, one), within=STUCK_S)
    await shop.calm_down()

    since = (await select(shop.stack, "SELECT clock_timestamp() AS now"))[0]["now"]

    async def is_watched():
        (report,) = await select(shop.stack, "SELECT at > %s AS fresh FROM monitor_reports WHERE name = 'last'", since)
        return report["fresh"]

    await eventually(is_watched, within=STUCK_S)  # no monitor that is stuck is in the way of the next
    await shop.calm_down()
    assert await shop.health() == "HEALTHY"


async def test_a_node_whose_workflow_is_stuck(shop, make_node):
    """Its new run does what the node's row demands, and what a person asked of the old one."""
    api = shop.api
    node = await make_node("ailing", [TYPE + 2])
    await make_node("doubted", [TYPE + 3])
    task_id = await api.create(TYPE + 2)
    put = await node.next_put()
    await api.until(task_id, "PROCESSING")
    async with shop.careless("sleeps"):
        await api.post("/gpus/ailing/fault?reason=fan")
        await shop.temporal.get_workflow_handle("gpu-doubted").signal("fault", {"reason": "noise"})
        await api.until(task_id, "QUEUED", within=STUCK_S)
        await api.succeed(put, {}, code=400)
        await api.gpu_until("doubted", "FAULTY", within=STUCK_S)
        (alert, *_) = await api.alerts("doubted")
        assert "noise" in alert["message"]
    await shop.calm_down()


async def completed(shop: Shop, task_id: str) -> bool:
    return await shop.status(f"task-{task_id}") is WorkflowExecutionStatus.COMPLETED

"""Nodes that drain: by REST and in Temporal's Web UI, until their deadline, and with everything started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from infra.db.transactions.obey_command import NO_REASON
from tests.conftest import Api, eventually
from tests.e2e.inside import select
from tests.e2e.test_operator_signals import INPUTS, audited, failed_steps, make_node, signal, state_of

__all__ = ["make_node"]  # a fixture: nodes whose workflows run

FAN = {"reason": "fan"}


def in_ms(seconds: float) -> int:
    return int((time.time() + seconds) * 1000)


@pytest.fixture(autouse=True)
async def undrained(api: Api) -> AsyncIterator[None]:
    """A row outlives its node, and so does a drain."""
    yield
    for node in await api.get("/gpus"):
        if node["draining"]:
            await api.post(f"/gpus/{node['gpuId']}/undrain")


async def remaining(api: Api, gpu_id: str) -> int | None:
    drain = (await api.get(f"/gpus/{gpu_id}"))["drain"]
    return drain and drain["remaining"]


async def waiting(api: Api, task_id: str) -> dict[str, Any]:
    """The reason why a task waits; the fleet is seen with half a second's delay."""
    found = (await api.get(f"/tasks/{task_id}/progress")).get("waiting")
    return found or {}


async def test_a_draining_node_ends_what_it_has_and_gets_nothing_new(api, make_node):
    node = await make_node("drained", [946], maxConcurrentTasks=2)
    running = await api.create(946)
    put = await node.next_put()
    before = in_ms(0)
    for _ in range(2):
        assert await api.post("/gpus/drained/drain", FAN) == "GPU已停止接收新任务"
    gpu = await api.get("/gpus/drained")
    assert (gpu["status"], gpu["draining"], gpu["currentTasks"]) == ("ACTIVE", True, 1)
    since = gpu["drain"].pop("since")
    assert before - 1000 <= since <= in_ms(1)
    assert gpu["drain"] == {"by": "bootstrap", "reason": "fan", "deadline": None, "remaining": 1}

    late = await api.create(946)
    found = await waiting(api, late)
    assert (found["reason"], found["draining"], found["estimatedWaitTime"]) == ("1 nodes: 1 draining", 1, None)
    await api.succeed(put, {})
    await api.until(running, "COMPLETED")
    assert await remaining(api, "drained") == 0
    assert node.puts.empty()

    for _ in range(2):
        assert await api.post("/gpus/drained/undrain") == "GPU已恢复接收任务"
    assert (await node.next_put()).task_id == late
    assert [(one["action"], one["outcome"]) for one in await api.get("/audit?size=6") if "drain" in one["action"]] == [
        ("gpu.undrain", "UNCHANGED"),
        ("gpu.undrain", "DONE"),
        ("gpu.drain", "UNCHANGED"),
        ("gpu.drain", "DONE"),
    ]


async def test_a_drain_outlives_its_registration(api, make_node):
    node = await make_node("returning", [947])
    await api.post("/gpus/returning/drain", FAN | {"deadline": (deadline := in_ms(3600))})
    shown = (await api.get("/gpus/returning"))["drain"]
    assert shown["deadline"] == deadline
    await api.register(node, [947])
    assert (await api.get("/gpus/returning"))["drain"] == shown
    await api.ask("DELETE", "/gpus/returning")
    for call in ("drain", "undrain"):
        await api.post(f"/gpus/returning/{call}", FAN, code=404)
    await api.register(node, [947])
    assert (await api.get("/gpus/returning"))["drain"] == shown
    task = await api.create(947)
    assert (await waiting(api, task))["draining"] == 1
    await api.post("/gpus/returning/undrain")
    assert (await node.next_put()).task_id == task


async def test_silence_and_faults_leave_a_drain_as_it_is(api, make_node):
    node = await make_node("dozing", [948])
    await api.post("/gpus/dozing/drain", FAN)
    node.fall_silent()
    await api.gpu_until("dozing", "OFFLINE", within=30)
    assert (await api.get("/gpus/dozing"))["draining"]
    await api.post("/gpus/dozing/heartbeat")
    assert (await api.get("/gpus/dozing"))["status"] == "ACTIVE"
    await api.post("/gpus/dozing/fault?reason=ECC")
    await api.post("/gpus/dozing/recover")
    gpu = await api.get("/gpus/dozing")
    assert (gpu["status"], gpu["draining"]) == ("ACTIVE", True)


async def test_at_the_deadline_tasks_go_elsewhere_without_a_retry(api, stack, make_node):
    node = await make_node("due", [763])
    task = await api.create(763, maxRetries=0)
    put = await node.next_put()
    await api.until(task, "PROCESSING")
    other = await make_node("fallback", [763])
    deadline = in_ms(2)
    await api.post("/gpus/due/drain", FAN | {"deadline": deadline})
    again = await other.next_put()
    assert 0 <= in_ms(0) - deadline < 4000
    assert again.task_id == task
    await eventually(lambda: _stopped(node, put.run_id))
    await api.succeed(put, {}, code=400)  # late
    await api.succeed(again, {})
    done = await api.until(task, "COMPLETED")
    assert (done["retryCount"], done["gpuId"]) == (0, "fallback")
    rows = await select(stack, "SELECT outcome FROM attempts WHERE task_id = %s ORDER BY attempt", task)
    assert [row["outcome"] for row in rows] == ["DRAINED", "SUCCEEDED"]
    gpu = await api.get("/gpus/due")
    assert (gpu["draining"], gpu["drain"]["remaining"]) == (True, 0)
    assert (gpu["failureCount"], gpu["taskFailureCount"]) == (0, 0)


async def _stopped(node: Any, run_id: str) -> bool:
    return run_id in node.canceled


async def test_undrain_in_time_lets_it_run(api, make_node):
    node = await make_node("reprieved", [764])
    task = await api.create(764)
    put = await node.next_put()
    await api.post("/gpus/reprieved/drain", FAN | {"deadline": in_ms(1)})
    await api.post("/gpus/reprieved/drain", FAN)  # without a deadline
    await asyncio.sleep(3)
    await api.succeed(put, {})
    assert (await api.until(task, "COMPLETED"))["gpuId"] == "reprieved"


async def test_a_person_drains_a_node_by_signals(api, temporal, make_node):
    node = await make_node("sent_a_drain", [765])
    await api.create(765)
    put = await node.next_put()
    await signal(temporal, "sent_a_drain", "drain", FAN | {"deadline": (deadline := in_ms(3600))})
    await eventually(partial(remaining, api, "sent_a_drain"))
    shown = (await api.get("/gpus/sent_a_drain"))["drain"]
    assert (shown["by"], shown["reason"], shown["deadline"]) == ("temporal", "fan", deadline)
    await api.succeed(put, {})
    late = await api.create(765)

    async def says_so() -> bool:
        return bool((await state_of(temporal, "gpu-sent_a_drain"))["draining"])

    await eventually(says_so)
    assert node.puts.empty()
    await signal(temporal, "sent_a_drain", "undrain", {"reason": "replaced"})
    assert (await node.next_put()).task_id == late
    assert await audited(api, "sent_a_drain") == [("gpu.drain", "fan", "DONE"), ("gpu.undrain", "replaced", "DONE")]
    assert not await says_so()
    assert await failed_steps(temporal, "gpu-sent_a_drain") == []


async def test_whatever_the_input_of_a_drain_holds_no_workflow_task_fails(api, temporal, make_node):
    """A deadline that can't be one, or has passed, is ignored: a slip of the hand stops no task."""
    await make_node("misread", [766])
    deadlines = [([FAN | {"deadline": given}], "fan") for given in (1703123456, True, "soon", 1e300, -1, 10**20, [1])]
    inputs = [*INPUTS, *deadlines]
    for given, _ in inputs:
        await signal(temporal, "misread", "drain", *given)
        await eventually(partial(is_draining, api, "misread", True))
        assert (await api.get("/gpus/misread"))["drain"]["deadline"] is None
        await signal(temporal, "misread", "undrain", *given)
        await eventually(partial(is_draining, api, "misread", False))
    expected = [(action, reason) for _, reason in inputs for action in ("gpu.drain", "gpu.undrain")]
    assert [entry[:2] for entry in await audited(api, "misread")] == expected
    assert NO_REASON in {reason for _, reason in expected}
    assert await failed_steps(temporal, "gpu-misread") == []


async def is_draining(api: Api, gpu_id: str, wanted: bool) -> bool:
    return (await api.get(f"/gpus/{gpu_id}"))["draining"] is wanted


async def test_a_workflow_shows_what_the_api_has_drained(api, temporal, make_node):
    await make_node("shown", [767])
    handle = temporal.get_workflow_handle("gpu-shown")
    for call, wanted in (("drain", True), ("undrain", False)):
        await api.post(f"/gpus/shown/{call}", FAN)

        async def is_shown(wanted: bool = wanted) -> bool:
            return (await handle.query("state"))["draining"] is wanted

        await eventually(is_shown)
        details = await handle.query("__temporal_workflow_metadata")
        assert ("draining" in details.current_details) is wanted


async def test_a_node_drains_itself_and_no_other(api, make_node, make_caller):
    await make_node("another", [768])
    own = await make_caller("node", "drains")
    node = await make_node("registrar", [769])
    await api.ask("DELETE", "/gpus/registrar")
    await own.register(node, [768])
    await own.post("/gpus/registrar/drain", FAN)
    assert (await own.get("/gpus/registrar"))["drain"]["by"] == "drains"
    await own.post("/gpus/another/drain", FAN, code=403)
    await own.post("/gpus/registrar/undrain", code=403)
    for role in ("operator", "user"):
        caller = await make_caller(role, "drains too")
        code = 200 if role == "operator" else 403
        await caller.post("/gpus/registrar/drain", FAN, code=code)
        await caller.post("/gpus/registrar/undrain", code=code)


async def test_health_says_that_the_whole_fleet_drains(api, make_node):
    """Other tests' nodes are gone by then: all that are left drain."""
    await make_node("alone", [771])
    healthy = await api.get("/monitoring/health/gpu")
    assert healthy["status"] == "HEALTHY"
    for node in await api.get("/gpus"):
        await api.post(f"/gpus/{node['gpuId']}/drain", FAN)
    task = await api.create(771)
    levels = {name: (await api.get(f"/monitoring/health/{name}"))["status"] for name in ("gpu", "queue", "system")}
    assert levels == {"gpu": "DEGRADED", "queue": "UNHEALTHY", "system": "UNHEALTHY"}
    assert (await api.get("/monitoring/health/system"))["details"]["draining_gpus"] >= 1

    async def is_unserved() -> bool:
        return any(one["title"] == "任务类型无可用节点" for one in await api.alerts(task))

    await api.post("/monitoring/check")
    await eventually(is_unserved)
    await api.post("/gpus/alone/undrain")
    assert (await api.get("/monitoring/health/gpu"))["status"] == "HEALTHY"


async def test_two_hundred_creations_at_once_find_no_draining_node(api, stack, make_node):
    """Whatever the order: after a drain's answer nothing is claimed, and after undrain nothing is left over."""
    node = await make_node("raced", [770], maxConcurrentTasks=64)
    creations = [asyncio.create_task(api.create(770)) for _ in range(200)]
    await asyncio.sleep(0.1)
    await api.post("/gpus/raced/drain", FAN)
    claimed = await _claims(stack)
    tasks = await asyncio.gather(*creations)
    assert await _claims(stack) == claimed < 64
    await api.post("/gpus/raced/undrain")
    for _ in tasks:
        await api.succeed(await node.next_put(), {})
    for task in tasks:
        await api.until(task, "COMPLETED")


async def _claims(stack: Any) -> int:
    rows = await select(stack, "SELECT count(*) AS n FROM attempts WHERE gpu_id = %s", "raced")
    return int(rows[0]["n"])

"""Alerts over REST, however often a node goes and comes, and however many call at once: one is open for each cause."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.conftest import Api, MakeNode, eventually
from tests.e2e.inside import select
from workers.stack.stack import Stack

AT_ONCE = 100
ROUNDS = 2  # of each of them
OUTAGES = 2  # each lasts for more than a grace
LIVES = 20
FAULT = "GPU节点 {} 检测到故障: {}"


async def about(api: Api, gpu_id: str) -> list[Any]:
    """The alerts of one node, the newest first."""
    return [one for one in await api.alerts(gpu_id) if f"GPU节点 {gpu_id} " in one["message"]]


async def test_a_node_that_goes_and_comes_back(api: Api, make_node: MakeNode) -> None:
    node = await make_node("alerts_flapping", [161], beats=False)
    await api.post(f"/gpus/{node.gpu_id}/heartbeat")
    for _ in range(OUTAGES):
        await api.gpu_until(node.gpu_id, "OFFLINE")
        await api.post(f"/gpus/{node.gpu_id}/heartbeat")
    (alert,) = await about(api, node.gpu_id)
    assert (alert["level"], alert["status"]) == ("WARNING", "ACTIVE")
    assert alert["message"] == "GPU节点 alerts_flapping 心跳超时，已离线（共2次）"


async def test_a_node_that_registers_faults_and_leaves_again_and_again(api: Api, make_node: MakeNode) -> None:
    gpu_id = "alerts_restless"
    node = await make_node(gpu_id, [162], beats=False)
    for number in range(LIVES):
        await api.register(node, [162])
        await api.post(f"/gpus/{gpu_id}/recover")
        await api.post(f"/gpus/{gpu_id}/fault?reason=r{number}")
        await api.ask("DELETE", f"/gpus/{gpu_id}")
    (alert,) = await about(api, gpu_id)
    assert (alert["level"], alert["message"]) == ("CRITICAL", FAULT.format(gpu_id, "r19") + "（共20次）")


async def test_a_fault_that_a_hundred_callers_report_at_once_is_one(api: Api, make_node: MakeNode) -> None:
    gpu_id = "alerts_reported"
    await make_node(gpu_id, [163])
    await asyncio.gather(*(api.post(f"/gpus/{gpu_id}/fault?reason=same") for _ in range(AT_ONCE)))
    (alert,) = await about(api, gpu_id)
    assert alert["message"] == FAULT.format(gpu_id, "same")


async def test_callers_that_fault_recover_and_acknowledge_at_once(api: Api, make_node: MakeNode, stack: Stack) -> None:
    """Every fault that was one is counted, and what is acknowledged meanwhile comes back within the hour by nothing."""
    names = [f"alerts_crowd_{number}" for number in range(5)]
    for name in names:
        await make_node(name, [164])
    before = await api.get("/monitoring/alerts/stats")

    async def caller(number: int) -> None:
        name = names[number % len(names)]
        for _ in range(ROUNDS):
            await api.post(f"/gpus/{name}/fault?reason=r{number}")
            await api.post(f"/gpus/{name}/recover")

    async def acknowledger() -> None:
        for name in names:
            await eventually(lambda name=name: about(api, name))  # type: ignore[misc]
            for alert in await about(api, name):
                await api.post(f"/monitoring/alerts/{alert['id']}/acknowledge")

    await asyncio.gather(*map(caller, range(AT_ONCE)), acknowledger(), acknowledger())
    rows = await select(stack, "SELECT * FROM alerts WHERE cause = ANY(%s)", [f"fault:{name}" for name in names])
    assert Counter(row["cause"] for row in rows) == {f"fault:{name}": 1 for name in names}
    assert {row["status"] for row in rows} == {"ACKNOWLEDGED"}
    faults = await select(
        stack,
        "SELECT subject, count(*) AS n FROM audit_log"
        " WHERE action = 'gpu.fault' AND outcome = 'DONE' AND subject = ANY(%s) GROUP BY 1",
        names,
    )
    assert {row["cause"]: row["count"] for row in rows} == {f"fault:{row['subject']}": row["n"] for row in faults}
    after = await api.get("/monitoring/alerts/stats")
    assert after["critical_alerts"] - before["critical_alerts"] == len(names)
    assert after["total_alerts"] == after["active_alerts"] + after["acknowledged_alerts"]


async def test_it_is_raised_again_an_hour_after_acknowledgement(api: Api, make_node: MakeNode, stack: Stack) -> None:
    gpu_id = "alerts_again"
    await make_node(gpu_id, [165])

    async def fault() -> list[str]:
        await api.post(f"/gpus/{gpu_id}/fault?reason=x")
        await api.post(f"/gpus/{gpu_id}/recover")
        return [one["status"] for one in await about(api, gpu_id)]

    assert await fault() == ["ACTIVE"]
    (alert,) = await about(api, gpu_id)
    await api.post(f"/monitoring/alerts/{alert['id']}/acknowledge")
    assert await fault() == ["ACKNOWLEDGED"]
    await select(
        stack,
        "UPDATE alerts SET raised_at = raised_at - interval '1 h', acknowledged_at = acknowledged_at - interval '1 h'"
        " WHERE cause = %s RETURNING 1",
        f"fault:{gpu_id}",
    )
    assert await fault() == ["ACTIVE", "ACKNOWLEDGED"]
    assert await fault() == ["ACTIVE", "ACKNOWLEDGED"]

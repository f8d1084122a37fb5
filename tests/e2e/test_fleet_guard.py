"""When a large part of the fleet falls silent at once, no node goes OFFLINE and a CRITICAL alert says why."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from tests.conftest import Api, MakeNode, eventually
from tests.fake_node import FakeNode
from tests.stack_settings import GRACE_S

SAID = "同时失去心跳"
SCAN_S = 4.0  # a scan, the write-behind of beats and the workflow's step, on a machine that is busy


async def test_half_of_eight_is_held_and_one_is_not(api: Api, make_node: MakeNode) -> None:
    before = {alert["id"] for alert in await api.alerts(SAID)}
    nodes = [await make_node(f"guarded_{n}", [801]) for n in range(8)]
    registered = await beats(api, nodes)
    await eventually(lambda: have_beaten_for_a_grace(api, nodes, registered))  # otherwise they do not count
    for node in nodes[:4]:
        node.fall_silent()
    await asyncio.gather(*(api.http.post(f"/gpus/{node.gpu_id}/heartbeat") for node in nodes[:4]))  # since one moment

    async def said() -> list[Any]:
        return [alert for alert in await api.alerts(SAID) if alert["id"] not in before]

    (alert,) = await eventually(said)
    assert (alert["level"], alert["source"]) == ("CRITICAL", "gpu_monitor")
    assert await statuses(api, nodes) == {"ACTIVE"}
    for node in nodes[:4]:
        node.beat_with(partial(api.http.post, f"/gpus/{node.gpu_id}/heartbeat"))
    await eventually(lambda: all_heard(api, nodes))
    assert await statuses(api, nodes) == {"ACTIVE"}

    nodes[7].fall_silent()
    await api.gpu_until("guarded_7", "OFFLINE", within=GRACE_S + SCAN_S)
    assert await statuses(api, nodes[:7]) == {"ACTIVE"}
    assert [one["id"] for one in await said()] == [alert["id"]]
    for node in nodes[:7]:
        assert (await api.get(f"/gpus/{node.gpu_id}"))["failureCount"] == 0
        assert await api.alerts(f"{node.gpu_id} 心跳超时") == []


async def statuses(api: Api, nodes: list[FakeNode]) -> set[str]:
    return {(await api.get(f"/gpus/{node.gpu_id}"))["status"] for node in nodes}


async def all_heard(api: Api, nodes: list[FakeNode]) -> bool:
    """Whether each has beaten within the last second or so, as the others show."""
    found = await beats(api, nodes)
    return max(found) - min(found) < 1000 * GRACE_S / 2


async def have_beaten_for_a_grace(api: Api, nodes: list[FakeNode], registered: list[int]) -> bool:
    pairs = zip(await beats(api, nodes), registered, strict=True)
    return all(last - first > 1000 * (GRACE_S + 1) for last, first in pairs)


async def beats(api: Api, nodes: list[FakeNode]) -> list[int]:
    return [(await api.get(f"/gpus/{node.gpu_id}"))["lastHeartbeat"] for node in nodes]


async def test_one_of_two_goes_offline_in_time(api: Api, make_node: MakeNode) -> None:
    silent, _ = [await make_node(f"small_fleet_{n}", [802]) for n in range(2)]
    silent.fall_silent()
    await api.gpu_until(silent.gpu_id, "OFFLINE", within=GRACE_S + SCAN_S)

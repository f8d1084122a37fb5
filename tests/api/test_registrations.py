"""Beats of a gpuId that is registered more than once (NODE_PROTOCOL, `X-Registration`)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import Api, MakeNode
from tests.fake_node import FakeNode
from tests.stack_settings import GRACE_S

HEADER = "X-Registration"


def body(gpu_id: str, port: int = 9) -> dict[str, Any]:
    return {"gpuId": gpu_id, "hostname": "h", "ip": "127.0.0.1", "port": port, "supportedTaskTypes": [976]}


async def register(api: Api, gpu_id: str, port: int = 9) -> str:
    """The name of the registration."""
    answer = await api.http.post("/gpus/register", json=body(gpu_id, port))
    assert answer.status_code == 200
    return str(answer.headers[HEADER])


async def beat(api: Api, gpu_id: str, registration: str | None) -> httpx.Response:
    headers = {} if registration is None else {HEADER: registration}
    response = await api.http.post(f"/gpus/{gpu_id}/heartbeat", headers=headers)
    assert api.contract is not None
    api.contract.check(response)
    return response


async def is_outdated(api: Api, gpu_id: str, registration: str | None) -> bool:
    answer = await beat(api, gpu_id, registration)
    assert (answer.status_code, answer.headers.get(HEADER)) in {(200, None), (400, "outdated")}
    if answer.status_code == 400:
        assert answer.json()["message"].startswith("请求参数错误: X-Registration ")
    return answer.status_code == 400


@pytest.fixture
async def gpu_id(api: Api, request: pytest.FixtureRequest) -> Any:
    name = f"registered_{request.node.name.split('[')[0]}"[:120]
    yield name
    await api.http.delete(f"/gpus/{name}")


async def test_a_later_registration_outdates_the_one_before(api: Api, gpu_id: str) -> None:
    first = await register(api, gpu_id)
    assert not await is_outdated(api, gpu_id, first)
    second = await register(api, gpu_id)
    assert first != second
    assert [await is_outdated(api, gpu_id, one) for one in (first, second, None, "")] == [True, False, False, False]
    await api.ask("DELETE", f"/gpus/{gpu_id}")
    await api.post(f"/gpus/{gpu_id}/heartbeat", headers={HEADER: second}, code=404)
    third = await register(api, gpu_id)
    assert [await is_outdated(api, gpu_id, one) for one in (first, second, third)] == [True, True, False]


@pytest.mark.parametrize("value", ["x", "1", "outdated", "密钥".encode(), "x" * 5000])
async def test_what_is_no_registration_is_outdated(api: Api, gpu_id: str, value: Any) -> None:
    await register(api, gpu_id)
    assert await is_outdated(api, gpu_id, value)


async def test_a_registration_is_one_node_s_only(api: Api, gpu_id: str) -> None:
    other = f"{gpu_id}_2"
    own, others = [await register(api, name) for name in (gpu_id, other)]
    assert await is_outdated(api, gpu_id, others)
    assert await is_outdated(api, other, own)
    await api.ask("DELETE", f"/gpus/{other}")


async def test_a_key_s_own_gpu_alone(make_caller: Any, gpu_id: str) -> None:
    one, two = await make_caller("node", "registered one"), await make_caller("node", "registered two")
    registration = await register(one, gpu_id)
    assert (await beat(two, gpu_id, registration)).status_code == 403
    assert not await is_outdated(one, gpu_id, registration)
    await one.ask("DELETE", f"/gpus/{gpu_id}")


async def test_outdated_beats_keep_nobody_active_and_bring_nobody_back(api: Api, gpu_id: str) -> None:
    first = await register(api, gpu_id)
    second = await register(api, gpu_id)
    deadline = asyncio.get_running_loop().time() + 10 * GRACE_S
    while (await api.get(f"/gpus/{gpu_id}"))["status"] == "ACTIVE":
        assert await is_outdated(api, gpu_id, first)
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.2)
    silent = await api.get(f"/gpus/{gpu_id}")
    assert await is_outdated(api, gpu_id, first)
    assert await api.get(f"/gpus/{gpu_id}") == silent
    assert silent["status"] == "OFFLINE"
    assert not await is_outdated(api, gpu_id, second)
    assert (await api.get(f"/gpus/{gpu_id}"))["status"] == "ACTIVE"


async def test_a_report_with_its_token_is_not_judged_by_the_registration(api: Api, make_node: MakeNode) -> None:
    node: FakeNode = await make_node("registered_reports", [977])
    task_id = await api.create(977)
    put = await node.next_put()
    node.known[put.run_id] = "processing"  # it is asked after a registration
    await api.register(node, [977])
    headers = {"X-Attempt-Token": put.token, HEADER: "outdated"}
    await api.post(f"/tasks/{task_id}/result", {"result": "{}"}, headers=headers)
    await api.until(task_id, "COMPLETED")

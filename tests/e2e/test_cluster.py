"""Two API processes and a worker on the same services: one truth, one leader, one transition for equal calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.begun import begun
from tests.conftest import Api, eventually, fleet, frontend, thrown_away
from tests.e2e.inside import select, signals
from tests.faults.contention import CHANGES_NODE, held
from tests.stack_settings import stack_settings
from workers.stack import programs
from workers.stack.logs import console
from workers.stack.part import Part
from workers.stack.ports import free_port
from workers.stack.stack import Stack

LEASE_S = 3.0
AT_ONCE = 5  # calls to each of the two


@dataclass(frozen=True)
class Cluster:
    """Its processes, and a caller of each API."""

    stack: Stack
    apis: dict[str, tuple[Part, Api]]  # by the part's name

    @property
    def callers(self) -> list[Api]:
        return [api for _, api in self.apis.values()]

    @property
    def processes(self) -> dict[str, int | None]:
        """Process id by part."""
        parts = [self.stack.part("worker"), *(part for part, _ in self.apis.values())]
        return {part.name: part.pid for part in parts}

    async def instances(self) -> dict[str, str]:
        """Part by instance id, for those that run."""
        parts = {pid: name for name, pid in self.processes.items()}
        rows = await select(self.stack, "SELECT instance_id, pid FROM instances")
        return {row["instance_id"]: parts[row["pid"]] for row in rows if row["pid"] in parts}

    async def is_whole(self) -> bool:
        return sorted((await self.instances()).values()) == ["api", "api_2", "worker"]

    async def epoch(self) -> int:
        return int((await select(self.stack, "SELECT epoch FROM leader_lease"))[0]["epoch"])

    async def at_once(self, call: Callable[[Api], Awaitable[Any]]) -> list[Any]:
        """The same call several times on both APIs, all under way together."""
        return await asyncio.gather(*(call(api) for _ in range(AT_ONCE) for api in self.callers))


def second_api(stack: Stack) -> tuple[Part, str]:
    """One more API process next to the stack's own, and its URL."""
    settings = stack.settings.model_copy(update={"port": free_port()})
    env = programs.environment(settings, stack.services, stack.data_dir, stack.api_key.secret)
    (spec,) = [one for wave in programs.programs(settings, stack.services, env) for one in wave if one.name == "api"]
    return Part(replace(spec, name="api_2"), stack.data_dir, console()), settings.local_url


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder = begun(tmp_path_factory.mktemp("cluster"))
    settings = stack_settings(folder, leader_lease=LEASE_S, instance_timeout=4, monitor_interval=30)
    async with thrown_away(Stack(settings, nodes=0)) as stack:
        part, url = second_api(stack)
        part.start()
        try:
            await part.until_ready(30)
            async with frontend(stack) as first, frontend(stack, url) as second:
                yield Cluster(stack, {"api": (stack.part("api"), first), "api_2": (part, second)})
        finally:
            await part.stop()


@pytest.fixture
async def make_node(cluster: Cluster) -> AsyncIterator[Any]:
    async with fleet(cluster.callers[0]) as make:
        yield make


async def test_both_answer_the_same(cluster):
    await eventually(cluster.is_whole)
    names = await cluster.instances()
    seen = []
    for api in cluster.callers:
        status, listed = await api.get("/cluster/status"), await api.get("/cluster/instances")
        assert (status["total_instances"], status["active_instances"]) == (3, 3)
        assert {one["instance_id"] for one in listed} == set(names)
        assert {one["status"] for one in listed} == {"ACTIVE"}
        assert [one["instance_id"] for one in listed if one["role"] == "LEADER"] == [status["leader_instance"]]
        seen.append((status["leader_instance"], [(one["instance_id"], one["start_time"]) for one in listed]))
    assert seen[0] == seen[1]


async def says_who_leads(cluster: Cluster) -> dict[str, bool]:
    """Each API's word about itself, by part."""
    names = await cluster.instances()
    overviews = [await api.get("/monitoring/overview") for api in cluster.callers]
    return {names[one["instance_id"]]: one["is_leader"] for one in overviews}


async def test_kill_9_of_the_leader(cluster):
    """The worker leaves in good order, so an API leads; that one is killed, and the other leads within the lease."""
    worker = cluster.stack.part("worker")
    await worker.stop()

    async def an_api_leads() -> str | None:
        word = await says_who_leads(cluster)
        assert set(word) == {"api", "api_2"}
        return next((name for name, leads in word.items() if leads), None)

    leader = await eventually(an_api_leads)
    epoch = await cluster.epoch()
    assert await says_who_leads(cluster) == {name: name == leader for name in cluster.apis}
    survivor = next(api for name, (_, api) in cluster.apis.items() if name != leader)
    dead = (await survivor.get("/cluster/status"))["leader_instance"]

    killed = cluster.apis[leader][0]
    killed.abandon()
    began = time.monotonic()

    async def another_leads() -> Any:
        status = await survivor.get("/cluster/status")
        leaders = [one["instance_id"] for one in status["instances"] if one["role"] == "LEADER"]
        assert leaders == ([status["leader_instance"]] if status["leader_instance"] else [])
        return status["leader_instance"] not in (None, dead)

    await eventually(another_leads)
    assert time.monotonic() - began < LEASE_S + 3  # and a turn of the other, on a machine that is busy
    assert (await survivor.get("/monitoring/overview"))["is_leader"] is True
    assert await cluster.epoch() == epoch + 1

    async def is_missed() -> bool:
        listed = {one["instance_id"]: one["status"] for one in await survivor.get("/cluster/instances")}
        return listed[dead] == "INACTIVE"

    await eventually(is_missed)
    await killed.stop()
    for part in (killed, worker):
        part.start()
    for part in (killed, worker):
        await part.until_ready(30)
    await eventually(cluster.is_whole)
    status = await survivor.get("/cluster/status")
    assert (status["total_instances"], status["active_instances"]) == (4, 3)  # the killed one is remembered for a while


async def test_fault_recover_and_return_are_one_transition_each(cluster, make_node):
    node = await make_node("twice", [1])

    async def statuses() -> list[str]:
        return [(await api.get("/gpus/twice"))["status"] for api in cluster.callers]

    assert set(await cluster.at_once(lambda api: api.post("/gpus/twice/fault?reason=fan"))) == {"GPU已标记为故障"}
    assert await statuses() == ["FAULTY", "FAULTY"]
    await eventually(lambda: cluster.callers[1].alerts("twice"))
    assert set(await cluster.at_once(lambda api: api.post("/gpus/twice/recover"))) == {"GPU恢复成功"}
    assert await statuses() == ["ACTIVE", "ACTIVE"]

    node.fall_silent()
    await cluster.callers[0].gpu_until("twice", "OFFLINE")
    assert set(await cluster.at_once(lambda api: api.post("/gpus/twice/heartbeat"))) == {"心跳更新成功"}
    assert await statuses() == ["ACTIVE", "ACTIVE"]

    sent = await signals(cluster.stack, "gpu-twice")
    assert {name: sent[name] for name in ("register", "fault", "recover", "heartbeat")} == {
        "register": 1,
        "fault": 1,
        "recover": 1,
        "heartbeat": 1,
    }
    assert sorted(one["level"] for one in await cluster.callers[1].alerts("twice")) == ["CRITICAL", "WARNING"]
    for api in cluster.callers:
        assert (await api.get("/monitoring/metrics"))["gpu_status_counts"] == {"ACTIVE": 1, "OFFLINE": 0, "FAULTY": 0}


async def test_fault_and_recover_that_wait_for_one_lock_are_one_transition_each(cluster, make_node):
    """The same call at both processes, proven to be under way together."""
    await make_node("crossed", [1])
    for call in ("fault?reason=fan", "recover"):
        async with held(cluster.stack) as lock:
            await lock.lock_node("crossed")
            calls = [asyncio.create_task(api.post(f"/gpus/crossed/{call}")) for api in cluster.callers]
            await lock.until_waiting(CHANGES_NODE, CHANGES_NODE)
            await lock.commit()
            await asyncio.gather(*calls)

    async def signalled() -> bool:
        sent = await signals(cluster.stack, "gpu-crossed")
        return (sent["fault"], sent["recover"]) == (1, 1)

    await eventually(signalled)
    assert [(await api.get("/gpus/crossed"))["status"] for api in cluster.callers] == ["ACTIVE", "ACTIVE"]
    assert len(await cluster.callers[0].alerts("crossed")) == 1


async def test_the_first_acknowledgement_stays(cluster, make_node):
    await make_node("noisy", [1])
    one, two = cluster.callers
    await one.post("/gpus/noisy/fault?reason=fan")

    (alert,) = await eventually(lambda: two.alerts("noisy"))
    path = f"/monitoring/alerts/{alert['id']}/acknowledge"
    assert set(await cluster.at_once(lambda api: api.post(path))) == {"告警已确认"}
    (first,) = await two.alerts("noisy")
    await cluster.at_once(lambda api: api.post(path))
    assert await two.alerts("noisy") == [first]
    assert (first["status"], first["acknowledgedBy"]) == ("ACKNOWLEDGED", "bootstrap")

    async def same() -> Any:
        """The answer that both give. Another alert may be raised between the two calls."""
        stats = [await api.get("/monitoring/alerts/stats") for api in cluster.callers]
        return stats[0] if stats[0] == stats[1] else None

    assert (await eventually(same))["acknowledged_alerts"] == 1


async def test_the_same_request_creates_one_task(cluster):
    body = {"taskType": 7, "userId": "u", "app": "a", "payload": "{}"}
    before = (await cluster.callers[0].get("/monitoring/overview"))["metrics"]["total_tasks"]
    created = await cluster.at_once(lambda api: api.post("/tasks", body, headers={"Idempotency-Key": "one task"}))
    assert len({one["taskId"] for one in created}) == len({one["displayId"] for one in created}) == 1
    for api in cluster.callers:
        assert [one["taskId"] for one in await api.get("/tasks?taskType=7")] == [created[0]["taskId"]]
        assert (await api.get("/monitoring/overview"))["metrics"]["total_tasks"] == before + 1
    events = await cluster.callers[1].get(f"/tasks/{created[0]['taskId']}/events")
    assert [event["to"] for event in events] == ["QUEUED"]


async def test_the_same_result_counts_once(cluster, make_node):
    node = await make_node("doubled", [8])
    task_id = await cluster.callers[0].create(8)
    put = await node.next_put()
    assert set(await cluster.at_once(lambda api: api.succeed(put, {"n": 1}))) == {"任务结果更新成功"}
    assert (await cluster.callers[1].until(task_id, "COMPLETED"))["gpuId"] == "doubled"
    events = await cluster.callers[1].get(f"/tasks/{task_id}/events")
    assert [event["to"] for event in events] == ["QUEUED", "PROCESSING", "COMPLETED"]
    assert await select(cluster.stack, "SELECT id FROM late_reports WHERE task_id = %s", task_id) == []


async def test_of_different_results_one_is_accepted(cluster, make_node):
    node = await make_node("torn", [9])
    task_id = await cluster.callers[0].create(9)
    put = await node.next_put()
    bodies = [{"result": f'{{"n": {n}}}'} for n in range(2 * AT_ONCE)]
    headers = {"X-Attempt-Token": put.token}
    answers = await asyncio.gather(
        *(
            cluster.callers[n % 2].http.post(f"/tasks/{task_id}/result", json=body, headers=headers)
            for n, body in enumerate(bodies)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (2 * AT_ONCE - 1)
    accepted = next(n for n, answer in enumerate(answers) if answer.status_code == 200)
    await cluster.callers[1].until(task_id, "COMPLETED")
    result = (await cluster.callers[1].get(f"/tasks/{task_id}/result"))["result"]
    assert result == {"n": accepted, "gpuId": "torn"}

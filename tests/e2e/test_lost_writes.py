"""Writes of the projection are lost after their commit: rows and workflows converge, and the timeline says how."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from infra.temporal import executions
from infra.temporal.access import DATA_CONVERTER
from tests.begun import begun
from tests.conftest import Api, MakeNode, eventually, fleet, frontend, thrown_away
from tests.e2e.inside import select
from tests.fake_node import FakeNode, Put
from tests.stack_settings import stack_settings
from workers.stack import programs
from workers.stack.logs import console
from workers.stack.part import Part
from workers.stack.stack import Stack
from workflows.domain.task import TRANSITIONS

EVERY = 10  # writes of a kind, of which one is lost
TYPE = 601
LOST = {"accept", "settle", "complete", "collect", "collect-end", "settle collect-end"}
TASKS = 96
LONGEST_HISTORY = 150  # events: more would be a workflow that runs in circles
KINDS = {"good": "COMPLETED", "bad": "FAILED", "refused": "FAILED", "late": "TIMEOUT"}
"""Payloads, by what they ask of the node, and the end that each must have."""


@dataclass(frozen=True)
class Lossy:
    """A stack whose one worker loses writes."""

    stack: Stack
    api: Api
    log: Path

    def losses(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines()) if self.log.exists() else Counter()


@pytest.fixture(scope="module")
async def lossy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lossy]:
    folder = tmp_path_factory.mktemp("lossy")
    settings = stack_settings(begun(folder / "data"), heartbeat_timeout=40, monitor_interval=2)
    async with thrown_away(Stack(settings, nodes=0)) as stack:
        await stack.part("worker").stop()
        log = folder / "losses"
        env = programs.environment(stack.settings, stack.services, stack.data_dir, stack.api_key.secret)
        command = (sys.executable, "-m", "tests.e2e.lossy_worker", str(EVERY), str(log))
        worker = Part(
            replace(stack.part("worker").spec, name="lossy", argv=command, env=env), stack.data_dir, console()
        )
        worker.start()
        try:
            await worker.until_ready(30)
            async with frontend(stack) as api:
                yield Lossy(stack, api, log)
        finally:
            await worker.stop()


@pytest.fixture
async def make_node(lossy: Lossy) -> AsyncIterator[MakeNode]:
    async with fleet(lossy.api) as make:
        yield make


class Obedient(FakeNode):
    """Does what the payload asks for, again when it is asked again, and knows what it runs."""

    def _answer(self, method: str, path: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, Any]]:
        if method == "PUT" and json.loads(content)["input"]["kind"] == "refused":
            return 422, {"detail": "no"}
        if method == "PUT":
            self.known[path.split("/")[2]] = "processing"
        return super()._answer(method, path, headers, content)

    async def work(self, api: Api) -> None:
        """Work until cancelled. An attempt may be closed by the time that it is reported: 400."""
        while True:
            put = await self.puts.get()
            path, body = self._report(put)
            if path:
                answer = await api.http.post(path, json=body, headers={"X-Attempt-Token": put.token})
                assert answer.status_code in (200, 400), answer.text

    def _report(self, put: Put) -> tuple[str, dict[str, Any]]:
        kind = put.body["input"]["kind"]
        if kind == "good":
            return f"/tasks/{put.task_id}/result", {"result": '{"n": 1}'}
        if kind == "bad":
            return f"/tasks/{put.task_id}/status", {"status": "FAILED", "gpuId": self.gpu_id, "message": "boom"}
        return "", {}


async def keep_recovering(api: Api, gpu_ids: list[str]) -> None:
    """Three failures in a row are likely here, and not what this is about."""
    while True:
        for gpu_id in gpu_ids:
            await api.http.post(f"/gpus/{gpu_id}/recover")
        await asyncio.sleep(0.5)


@pytest.mark.timeout(200)
async def test_rows_and_workflows_converge(lossy, make_node, monkeypatch):
    api = lossy.api
    monkeypatch.setattr("tests.conftest.FakeNode", Obedient)
    nodes = [await make_node(f"lossy_{n}", [TYPE], maxConcurrentTasks=6) for n in range(4)]
    helpers = [asyncio.create_task(node.work(api)) for node in nodes]
    helpers.append(asyncio.create_task(keep_recovering(api, [node.gpu_id for node in nodes])))
    kinds = [*["good"] * 13, "bad", "refused", "late"] * (TASKS // 16)
    tasks = {
        await api.create(
            TYPE, json.dumps({"kind": kind}), timeout=1000 if kind == "late" else 30_000, maxRetries=1
        ): kind
        for kind in kinds
    }

    async def unfinished() -> int:
        rows = await select(lossy.stack, "SELECT count(*) AS n FROM tasks WHERE completed_at IS NULL")
        return int(rows[0]["n"])

    async def all_ended() -> bool:
        return await unfinished() == 0

    await api.post("/monitoring/check")
    await eventually(all_ended, within=90)
    for helper in helpers:
        helper.cancel()
        with suppress(asyncio.CancelledError):
            await helper

    assert set(lossy.losses()) >= LOST
    client = await Client.connect(
        lossy.stack.services.temporal_address,
        namespace=lossy.stack.services.temporal_namespace,
        data_converter=DATA_CONVERTER,
    )
    entries: Counter[str] = Counter()
    for task_id, kind in tasks.items():
        await eventually(partial(has_ended, client, task_id, KINDS[kind]))
        assert (await api.get(f"/tasks/{task_id}"))["status"] == KINDS[kind]
        entries += repairs(await api.get(f"/tasks/{task_id}/events"))
    assert entries["transition"] >= 1
    assert entries["note"] >= 1
    for node in nodes:
        assert (await api.get(f"/gpus/{node.gpu_id}"))["currentTasks"] == 0
    counts = (await api.get("/monitoring/metrics"))["task_status_counts"]
    assert {status: n for status, n in counts.items() if n} == Counter(KINDS[kind] for kind in kinds)


async def has_ended(client: Client, task_id: str, status: str) -> bool:
    """Whether the workflow has ended, and as its task."""
    described = await executions.describe(client, task_id)
    assert described is not None
    assert (await client.get_workflow_handle(f"task-{task_id}").describe()).history_length < LONGEST_HISTORY
    if described.runs:
        return False
    assert (described.status is WorkflowExecutionStatus.COMPLETED) == (status == "COMPLETED")
    return await executions.outcome(client, task_id, described.run_id) == status


def repairs(events: list[dict[str, Any]]) -> Counter[str]:
    """How many transitions and notes the reconciler has written; the whole timeline is checked on the way."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(before["to"] == after["from"] for before, after in pairwise(events))
    for event in events:
        is_note = event["from"] == event["to"]
        assert is_note or (event["from"], event["to"]) in TRANSITIONS
        assert not is_note or (event["actor"], bool(event["reason"])) == ("reconciler", True)
    return Counter("note" if e["from"] == e["to"] else "transition" for e in events if e["actor"] == "reconciler")

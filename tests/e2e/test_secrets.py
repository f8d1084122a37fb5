"""Keys and payloads appear in no log, span, history or error (issue 4): canaries, and a search for them everywhere.

Every payload and every result counts as secret, marked or not. Their places are the database, the node that runs the
task, and the answers to those who may read it (`payload` and `result` of §3.2, `result` of §3.4).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from temporalio.client import Client

from tests.begun import begun
from tests.collector import Collector
from tests.conftest import Api, MakeNode, eventually, fleet, frontend
from tests.fake_node import FakeNode
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

KEY = "canary-of-the-key-" + "k" * 32
CANARIES = {
    "key": KEY,
    "wrong key": "canary-of-a-wrong-key",
    "payload": "canary-of-the-payload",
    "result": "canary-of-the-result",
    "dispatch secret": "canary-of-the-dispatch-secret",  # pragma: allowlist secret
    "refusal": "canary-of-a-refusing-node",
}
NODES_WORDS = {
    "failure": "canary-in-the-message-of-a-failure",
    "hand-back": "canary-in-the-message-of-a-hand-back",
    "late report": "canary-in-a-late-report",
    "answer": "canary-in-the-error-of-an-answer",
    "garbled answer": "canary-in-what-is-no-http",
    "fault": "canary-in-the-reason-of-a-fault",
}
"""A node's words may hold a piece of a payload: callers and operators read it in our answers, not in Temporal."""
PAYLOAD = json.dumps({"prompt": CANARIES["payload"]})
TYPE, SHORT = 2, 901  # attempts of the latter end after a second, without a retry


@dataclass
class Watched:
    """A stack, its node, and everything that it said: what its API answered and what it exported."""

    api: Api
    node: FakeNode
    collector: Collector
    folder: Path
    refusals: list[bytes] = field(default_factory=list)

    async def see(self, response: httpx.Response) -> None:
        await response.aread()
        if response.status_code != 200:
            self.refusals.append(str(response.headers).encode() + response.content)

    async def sql(self, statement: str) -> None:
        url = self.api.stack.services.database_url.replace("postgresql+psycopg", "postgresql")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(statement)

    async def histories(self) -> dict[str, bytes]:
        """Histories as bytes: in JSON every message would be hidden in Base64."""
        client = await Client.connect(self.api.stack.services.temporal_address)
        found = [one async for one in client.list_workflows()]
        handles = [client.get_workflow_handle(one.id, run_id=one.run_id) for one in found]
        histories = {handle.id: await handle.fetch_history() for handle in handles}
        return {name: b"".join(one.SerializeToString() for one in found.events) for name, found in histories.items()}

    def written(self) -> dict[str, bytes]:
        """The files of the data directory, without the database and the key's own, which may hold them."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "api_key"]
        own = self.folder / "postgres"
        return {str(path): path.read_bytes() for path in files if own not in path.parents}


@pytest.fixture(scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    collector, folder = Collector(), begun(tmp_path_factory.mktemp("secrets"))
    await collector.start()
    with pytest.MonkeyPatch.context() as environment:  # read when the stack is put together
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        settings = stack_settings(folder, api_key=SecretStr(KEY), log_level="DEBUG", monitor_interval=30)
        stack = Stack(settings, nodes=0)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(stack)
        api = await opened.enter_async_context(frontend(stack))
        make_node: MakeNode = await opened.enter_async_context(fleet(api))
        node = await make_node("secret_gpu", [TYPE, SHORT], dispatchSecret=CANARIES["dispatch secret"])
        yield Watched(api, node, collector, folder)
    await collector.stop()


async def until_shown(watched: Watched, task_id: str, status: str) -> Any:
    task = await watched.api.until(task_id, status)
    assert task["payload"] == PAYLOAD
    return task


async def work(watched: Watched) -> None:
    """A task that fails and is retried, one that times out, one that is refused, one whose node can't be understood."""
    api, node = watched.api, watched.node
    retried = await api.create(TYPE, PAYLOAD)
    put = await node.next_put()
    assert put.body["input"] == json.loads(PAYLOAD)
    assert put.headers["authorization"] == f"Bearer {CANARIES['dispatch secret']}"
    await api.say(put, "FAILED", "CUDA out of memory")
    await api.succeed(await node.next_put(), {"image": CANARIES["result"]})
    assert CANARIES["result"] in (await until_shown(watched, retried, "COMPLETED"))["result"]

    slow = await api.create(SHORT, PAYLOAD)
    await node.next_put()
    await until_shown(watched, slow, "TIMEOUT")

    for status in (422, 500):
        node.answer = (status, {"detail": PAYLOAD, "error": CANARIES["refusal"]})
        odd = await api.create(TYPE, PAYLOAD)
        if status == 500:
            await node.next_put()
            node.answer = (202, {"status": "starting"})
            while (put := await node.next_put()).task_id != odd:
                pass
            await api.succeed(put, {})
        task = await until_shown(watched, odd, "FAILED" if status == 422 else "COMPLETED")
        assert CANARIES["refusal"] not in json.dumps(task)
    await api.succeed(put, {"image": CANARIES["result"]}, code=400)  # a different second result


async def words(watched: Watched) -> None:
    """A node says something in every place where it can."""
    api, node = watched.api, watched.node
    task_id = await api.create(SHORT, PAYLOAD)
    put = await node.next_put()
    await api.say(put, "QUEUED", NODES_WORDS["hand-back"])
    again = await node.next_put()
    await api.say(again, "FAILED", NODES_WORDS["failure"])
    assert (await until_shown(watched, task_id, "FAILED"))["errorMessage"] == NODES_WORDS["failure"]
    await api.say(put, "FAILED", NODES_WORDS["late report"], code=400)

    node.answer = (200, {"status": "failed", "error": NODES_WORDS["answer"]})
    answered = await api.create(SHORT, PAYLOAD)
    assert (await until_shown(watched, answered, "FAILED"))["errorMessage"] == NODES_WORDS["answer"]

    node.garbled = f"{NODES_WORDS['garbled answer']} 200 OK\r\n\r\n".encode()
    garbled = await api.create(TYPE, PAYLOAD)
    while (await node.next_put()).task_id != garbled:
        pass
    await node.next_put()  # the first try has failed, and so has been written down
    node.answer, node.garbled = (202, {"status": "starting"}), None
    await api.post(f"/gpus/{node.gpu_id}/fault?reason={NODES_WORDS['fault']}")

    async def withdrawn() -> bool:
        return bool((await api.get(f"/gpus/{node.gpu_id}"))["currentTasks"] == 0)

    await eventually(withdrawn)  # recovered before that, the node would keep its first attempt
    await api.post(f"/gpus/{node.gpu_id}/recover")
    await api.until(garbled, "PROCESSING")
    while (put := await node.next_put()).body["context"]["attempt"] == 1:
        pass
    await api.succeed(put, {})
    await until_shown(watched, garbled, "COMPLETED")


async def mistakes(watched: Watched) -> None:
    """Requests with a canary in every place, and a wrong key."""
    payload, api = CANARIES["payload"], watched.api
    task = {"taskType": TYPE, "userId": "u", "app": "a", "payload": PAYLOAD}
    await api.http.post(
        "/tasks", content=f'{{"payload": "{payload}", '.encode(), headers={"Content-Type": "application/json"}
    )
    for change in (
        {"taskType": payload},
        {"payload": {"x": payload}},
        {"env": payload * 9},
        {"payload": payload + "\0"},
    ):
        await api.post("/tasks", task | change, code=400)
    await api.post("/tasks", {payload: payload}, code=400)
    for path in (f"/tasks?status={payload}", f"/tasks?taskType={payload}", f"/tasks?gpuId=%00{payload}"):
        await api.get(path, code=400)
    for path in ("/tasks/none", "/gpus/none", "/nothing", "/monitoring/metrics/none"):  # a path is a name, and traced
        await api.get(path, code=404)
    await api.http.get("/tasks", headers={"Authorization": f"Bearer {CANARIES['wrong key']}"})
    await api.http.get("/tasks", headers={"X-API-Key": CANARIES["wrong key"]})
    await api.http.get(f"/tasks?api_key={KEY}", headers={"Authorization": ""})


async def trouble(watched: Watched) -> None:
    """A database that refuses the row with the payload in it, and one that is away."""
    task = {"taskType": TYPE, "userId": "u", "app": "refused", "payload": PAYLOAD}
    await watched.sql("ALTER TABLE tasks ADD CONSTRAINT a_bug CHECK (app <> 'refused')")
    await watched.api.post("/tasks", task, code=500)
    await watched.sql("ALTER TABLE tasks DROP CONSTRAINT a_bug")
    postgres = watched.api.stack.part("postgres")
    await postgres.stop()
    await watched.api.post("/tasks", task, code=503)
    postgres.start()
    await postgres.until_ready(30)

    async def answers() -> bool:
        return (await watched.api.http.get("/tasks")).status_code == 200

    await eventually(answers)


@pytest.mark.timeout(240)
async def test_what_is_secret_is_found_nowhere(watched: Watched) -> None:
    watched.api.http.event_hooks["response"].append(watched.see)
    await words(watched)
    await work(watched)
    await mistakes(watched)
    await trouble(watched)
    await asyncio.sleep(0.5)  # the last spans are exported every 0.1 s

    assert len(watched.refusals) > 15
    histories = await watched.histories()
    tasks = {name: text for name, text in histories.items() if name.startswith("task-")}
    assert len(tasks) >= 7
    assert all(f'"{name.removeprefix("task-")}"'.encode() in text for name, text in tasks.items())
    assert {span.service for span in watched.collector.spans} >= {"gpu-orchestrator-api", "gpu-orchestrator-worker"}
    written = watched.written()
    logs = {Path(name).name: content for name, content in written.items() if name.endswith(".log")}
    assert logs.keys() >= {"api.log", "worker.log", "postgres.log", "temporal.log"}
    assert b"a_bug" in logs["api.log"]  # the bug is there, without the row that it was about
    places: dict[str, bytes] = {"spans": bytes(watched.collector.received), "errors": b"\n".join(watched.refusals)}
    places |= histories | written
    found = [
        (what, name) for what, canary in CANARIES.items() for name, text in places.items() if canary.encode() in text
    ]
    kept = histories | {name: text for name, text in written.items() if "temporal.db" in name}
    assert len(kept) > len(histories)
    found += [
        (what, name) for what, canary in NODES_WORDS.items() for name, text in kept.items() if canary.encode() in text
    ]
    assert not found

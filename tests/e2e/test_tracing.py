"""One trace from the request through the workflow and its activities to the node and back, on a stack of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from temporalio.client import Client
from temporalio.worker import Replayer

from infra.settings import Settings
from infra.temporal.access import DATA_CONVERTER
from tests.begun import begun
from tests.collector import Collector, Span
from tests.conftest import Api, eventually
from workers.stack.ports import free_port
from workers.stack.stack import Stack
from workers.temporal_worker import WORKFLOWS, workflow_runner

PARENT = "b7ad6b7169203331"  # pragma: allowlist secret
TILE = 3  # a type that the stack's own nodes serve
UNSERVED = 990
API, WORKER, NODE = (f"gpu-orchestrator-{name}" for name in ("api", "worker", "node"))
TASKS = "POST /api/v2/tasks"


@dataclass
class Traced:
    """A stack that exports its traces to a collector."""

    api: Api
    collector: Collector

    async def until(self, trace: str, name: str) -> Span:
        """The first span of that name in a trace, waited for."""

        async def found() -> Span | None:
            return next((span for span in self.collector.of(trace) if span.name == name), None)

        span: Span = await eventually(found)
        return span

    async def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        url = self.api.stack.services.database_url.replace("postgresql+psycopg", "postgresql")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def temporal(self) -> Client:
        return await Client.connect(self.api.stack.services.temporal_address)


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    collector = Collector()
    await collector.start()
    settings = Settings(
        data_dir=begun(tmp_path_factory.mktemp("traced")),
        port=free_port(),
        temporal_port=free_port(),
        temporal_ui_port=free_port(),
        monitor_interval=3,
    )
    with pytest.MonkeyPatch.context() as environment:  # read when the stack is put together
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        stack = Stack(settings, nodes=1)
    key = stack.api_key.secret.get_secret_value()
    async with (
        stack,
        httpx.AsyncClient(
            base_url=f"{stack.api_url}/api/v2", headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=20
        ) as http,
    ):
        api = Api(http, stack, key)
        await eventually(lambda: api.get("/gpus"))  # a task that was there first would be handed its slot otherwise
        yield Traced(api, collector)
    await collector.stop()


def caller(trace: str) -> dict[str, str]:
    """The header of a frontend that traces."""
    return {"traceparent": f"00-{trace}-{PARENT}-01"}


async def create(traced: Traced, trace: str, task_type: int, payload: dict[str, Any]) -> str:
    body = {"taskType": task_type, "userId": "user_001", "app": "tests", "payload": json.dumps(payload)}
    task_id: str = (await traced.api.post("/tasks", body, headers=caller(trace)))["taskId"]
    return task_id


async def test_one_trace_from_the_request_to_the_node_and_back(traced: Traced) -> None:
    trace, secret = "1" * 32, traced.api.stack.data_dir.demo / "marker-of-the-payload.png"
    size = {"imageWidth": 16, "imageHeight": 16, "x": 0, "y": 0, "width": 16, "height": 16}
    task_id = await create(traced, trace, TILE, {"output": str(secret), **size})
    await traced.api.until(task_id, "COMPLETED")
    report = f"{TASKS}/{{taskId}}"
    chain = {  # span -> (its program, its parent)
        TASKS: (API, "frontend"),
        "StartWorkflow:TaskWorkflow": (API, TASKS),
        "RunWorkflow:TaskWorkflow": (WORKER, "StartWorkflow:TaskWorkflow"),
        "StartActivity:dispatch": (WORKER, "StartWorkflow:TaskWorkflow"),
        "RunActivity:dispatch": (WORKER, "StartActivity:dispatch"),
        "execute attempt": (NODE, "RunActivity:dispatch"),
        f"{report}/status": (API, "execute attempt"),
        f"{report}/result": (API, "execute attempt"),
        "SignalWorkflow:settled": (API, f"{report}/result"),
        "HandleSignal:settled": (WORKER, "StartWorkflow:TaskWorkflow"),
        "StartActivity:collect": (WORKER, "StartWorkflow:TaskWorkflow"),
        "RunActivity:collect": (WORKER, "StartActivity:collect"),
        "CompleteWorkflow:TaskWorkflow": (WORKER, "StartWorkflow:TaskWorkflow"),
    }
    for name in chain:
        await traced.until(trace, name)
    spans = traced.collector.of(trace)
    by_name = {span.name: span for span in spans}
    named = {span.id: span.name for span in spans} | {PARENT: "frontend"}
    found = {span.name: (span.service, named.get(span.parent)) for span in spans}
    look = {name for name in found if name.endswith(":select_slot")}  # where the creation has found no slot at once
    assert {name: span for name, span in found.items() if name not in look} == chain
    often = Counter(span.name for span in spans if span.name != f"{report}/status")  # progress is reported repeatedly
    assert set(often.values()) == {1}
    assert by_name["HandleSignal:settled"].links == (by_name["SignalWorkflow:settled"].id,)
    assert not [span.name for span in spans if span.failed]

    what = {"task.id": task_id, "task.type": TILE, "task.attempt": 1, "gpu.id": "gpu_001"}
    assert by_name["execute attempt"].attributes == what | {"attempt.status": "succeeded"}
    assert by_name["RunActivity:dispatch"].attributes.items() >= what.items()
    assert by_name["RunActivity:collect"].attributes.items() >= {"task.status": "COMPLETED"}.items()
    if not look:  # otherwise the node's row was locked for a moment
        assert by_name[TASKS].attributes.items() >= what.items()  # the slot was free, and is claimed with the creation
    assert by_name[f"{report}/result"].attributes.items() >= {"task.id": task_id}.items()

    ((token,),) = await traced.sql("SELECT token FROM attempts WHERE task_id = %s", task_id)
    for kept_back in (secret.name, token, traced.api.key):
        assert kept_back.encode() not in traced.collector.received


async def test_a_traced_history_replays_without_tracing(traced: Traced) -> None:
    size = {"imageWidth": 16, "imageHeight": 16, "x": 0, "y": 0, "width": 16, "height": 16}
    output = str(traced.api.stack.data_dir.demo / "replayed.png")
    task_id = await create(traced, "2" * 32, TILE, {"output": output, **size})
    await traced.api.until(task_id, "COMPLETED")
    history = await (await traced.temporal()).get_workflow_handle(f"task-{task_id}").fetch_history()
    assert "_tracer-data" in history.to_json()
    replayer = Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER, workflow_runner=workflow_runner(Settings()))
    await replayer.replay_workflow(history)


async def test_a_workflow_that_the_reconciler_starts_joins_the_trace_of_its_row(traced: Traced) -> None:
    trace = "3" * 32
    task_id = await create(traced, trace, UNSERVED, {})
    request = await traced.until(trace, TASKS)
    await traced.until(trace, "StartWorkflow:TaskWorkflow")
    temporal = await traced.temporal()

    async def is_started() -> bool:
        return not await traced.sql("SELECT task_id FROM outbox WHERE task_id = %s", task_id)

    await eventually(is_started)
    await temporal.get_workflow_handle(f"task-{task_id}").terminate()
    before = len(traced.collector.of(trace))
    await traced.sql("UPDATE tasks SET waiting_since = NULL WHERE task_id = %s", task_id)
    await traced.sql(
        "INSERT INTO outbox VALUES (%s, clock_timestamp() - interval '1 minute')",
        task_id,
    )

    async def again() -> list[Span]:
        spans = traced.collector.of(trace)[before:]
        return spans if "RunActivity:select_slot" in {span.name for span in spans} else []

    spans: dict[str, Span] = {span.name: span for span in await eventually(again)}
    start = spans["StartWorkflow:TaskWorkflow"]
    assert (start.service, start.parent) == (WORKER, request.id)
    assert spans["RunWorkflow:TaskWorkflow"].parent == start.id


async def test_what_lives_for_ever_joins_nobodys_trace(traced: Traced) -> None:
    """A node's workflow has no end, and so would the trace of the request that started it."""

    async def registration() -> list[Span]:
        return [span for span in traced.collector.spans if span.name == "POST /api/v2/gpus/register"]

    (begun,) = await eventually(registration)
    assert traced.collector.of(begun.trace) == [begun]
    names = {span.name for span in traced.collector.spans}
    assert "RunActivity:attend_node" in names
    assert not [name for name in names if "GpuHealth" in name or "heartbeat" in name or "readyz" in name]

"""The running system and what a measurement needs of it, from outside: REST, nodes, Temporal, Postgres."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from temporalio.client import Client, GrpcCompression

from infra.data_dir.embedded import DATABASE
from infra.settings import Settings
from tests.bench.bare import Bare
from tests.bench.companion import Companion
from tests.bench.meter import PRODUCT, Meter
from tests.bench.node import Beats, Node, OnHeld, Put
from tests.bench.stats import Samples
from tests.bench.wire import Api, Reply
from workers.stack.logs import Log
from workers.stack.ports import free_port
from workers.stack.stack import Stack

Connection = psycopg.AsyncConnection[tuple[object, ...]]
DEADLINE_MS = 3_600_000  # a slot is held while ten thousand tasks are created
SCRATCH = "gpu-orchestrator-bench-"
ROUTINE = (" INFO ", " DEBUG ")
SHOWN_LINES, SHOWN_COLUMNS = 12, 300
EMBEDDED: dict[str, Any] = {  # whatever the environment says; everything else is as it says, or as by default
    "mode": "development",
    "api_key": None,
    "database_url": None,
    "redis_url": None,
    "temporal_address": None,
}


class NotSoon(Exception):
    """An expected event did not happen in time."""


@dataclass
class Rig:
    """One stack with its API, a Temporal client, the bare reference, and connections to its Postgres."""

    stack: Stack
    api: Api
    temporal: Client
    bare: Bare
    database: Connection  # the product's
    statistics: Connection  # another database of the same server: what it does is not counted as the product's
    meter: Meter
    beats: Beats
    _nodes: list[Node] = field(default_factory=list)

    async def node(
        self, gpu_id: str, task_type: int, slots: int, on_put: Callable[[Put], None], on_held: OnHeld | None = None
    ) -> Node:
        """A registered node that beats until the rig ends."""
        node = Node(gpu_id, task_type, slots, on_put, on_held)
        await node.start()
        self._nodes.append(node)
        await node.register(self.api)
        self.beats.add(gpu_id)
        return node

    @property
    def oldest_node(self) -> str:
        """The node that has beaten for the longest time."""
        return self._nodes[0].gpu_id

    async def create(self, task_type: int, *, app: str = "bench", **input: Any) -> Reply:
        """POST /tasks."""
        body = {
            "taskType": task_type,
            "userId": "bench",
            "app": app,
            "payload": json.dumps(input),
            "timeout": DEADLINE_MS,
        }
        return await self.api.call("POST", "/tasks", body)

    async def create_many(
        self, task_type: int, inputs: list[dict[str, Any]], *, at_once: int, app: str = "bench", apps: int = 1
    ) -> list[Reply]:
        """Create many tasks in order, `at_once` of them at a time, spread over `apps` apps."""
        replies: list[Reply] = []
        numbered = iter(enumerate(inputs))

        async def lane() -> None:
            for number, one in numbered:
                name = app if apps == 1 else f"{app}-{number % apps}"
                replies.append(await self.create(task_type, app=name, **one))

        await asyncio.gather(*(lane() for _ in range(at_once)))
        return replies

    async def completed(self, task_id: str) -> None:
        """Wait until one task reads COMPLETED."""

        async def done() -> bool:
            status: str = (await self.api.call("GET", f"/tasks/{task_id}")).data["status"]
            return status == "COMPLETED"

        await eventually(done, within=20, step=0.01)

    async def count(self, condition: str, *values: object) -> int:
        """Rows of tasks that meet a condition in SQL."""
        found = await self.database.execute(f"SELECT count(*) FROM tasks WHERE {condition}", values)
        row = await found.fetchone()
        assert row is not None
        return int(str(row[0]))

    async def history_lengths(self, task_ids: Iterable[str]) -> Samples:
        """Events in the histories of those tasks whose workflow has ended."""
        lengths = []
        for task_id in task_ids:
            found = await self.temporal.get_workflow_handle(f"task-{task_id}").describe()
            if found.close_time is not None:
                lengths.append(found.history_length)
        return Samples.of(lengths)

    def stop_nodes(self) -> None:
        """Stop listening for dispatches."""
        for node in self._nodes:
            node.stop()


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    """A fresh stack in a scratch folder, as `gpu-orchestrator run` would start it, without local nodes."""
    async with AsyncExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix=SCRATCH))
        ports: dict[str, Any] = {name: free_port() for name in ("port", "temporal_port", "temporal_ui_port")}
        settings = Settings(data_dir=Path(folder) / "data", **EMBEDDED, **ports)
        stack = await held.enter_async_context(Stack(settings, nodes=0, log=quiet()))
        services = stack.services
        temporal = await Client.connect(
            services.temporal_address,
            namespace=services.temporal_namespace,
            grpc_compression=GrpcCompression.NONE,
        )
        companion = Companion("tests.bench.bare", services.temporal_address, services.temporal_namespace)
        bare = Bare(temporal, await held.enter_async_context(companion))
        database = await held.enter_async_context(await connect(services.database_url))
        elsewhere = services.database_url.replace(f"/{DATABASE}?", "/postgres?")
        statistics = await held.enter_async_context(await connect(elsewhere))
        api = Api(settings.host, settings.port, stack.api_key.secret.get_secret_value())
        held.callback(api.close)
        meter = Meter({name: stack.part(name).pid or 0 for name in PRODUCT})
        meter.watch("bare worker", bare.pid)
        rig = Rig(stack, api, temporal, bare, database, statistics, meter, Beats(api))
        held.callback(rig.stop_nodes)
        held.push_async_callback(rig.beats.stop)
        rig.beats.start()
        yield rig


async def connect(database_url: str) -> Connection:
    """A connection that commits each statement."""
    url = database_url.replace("postgresql+psycopg", "postgresql")
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def eventually(check: Callable[[], Awaitable[bool]], *, within: float, step: float = 0.05) -> None:
    """Wait for a condition. Raises NotSoon."""
    deadline = time.perf_counter() + within
    while not await check():
        if time.perf_counter() > deadline:
            raise NotSoon(f"{check.__qualname__} after {within:g} s")
        await asyncio.sleep(step)


def say(text: str) -> None:
    """Print progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def quiet() -> Log:
    """The output of the parts: of each only the first lines that are not routine."""
    shown: Counter[str] = Counter()

    def write(name: str, line: str) -> None:
        if not any(word in line for word in ROUTINE):
            shown[name] += 1
            if shown[name] <= SHOWN_LINES:
                say(f"  {name:<8} | {line[:SHOWN_COLUMNS]}")
            elif shown[name] == SHOWN_LINES + 1:
                say(f"  {name:<8} | … and more that is not shown")

    return write

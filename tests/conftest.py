"""The real stack, once per test run: Postgres, Redis, Temporal, a worker and an API, each its own process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from temporalio.client import Client

from infra.db.access import api_keys
from infra.db.access.api_keys import MadeKey, NewKey
from infra.db.access.audit import Actor
from infra.db.session import Database
from tests import begun
from tests.contract import Contract
from tests.fake_node import FakeNode
from tests.stack_settings import stack_settings
from workers.stack import postgres
from workers.stack.stack import Stack
from workflows.domain.role import Role

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # how fast an example is says how busy the machine is

ANYBODYS = {*range(100), 903, 904, 905, 999}  # the pages of the console show one world
"""Task types that several files use, since nothing depends on which node gets such a task."""
TYPES_IN_USE: dict[tuple[str, int], str] = {}
"""The file of tests that uses a task type, by stack and type."""
TLS = ssl.create_default_context()  # of all clients: to make one costs more than many calls


LONG = (
    "fuzz/test_fuzz", "e2e/test_stuck_workflows", "faults/test_nemesis", "e2e/test_notify", "e2e/test_restart",
    "e2e/test_operations_killed", "e2e/test_lost_writes", "e2e/test_upgrade", "e2e/test_cluster",
    "faults/test_webhook_storm", "e2e/test_stack", "e2e/test_secrets", "e2e/test_tracing",
)  # fmt: skip
"""The files with stacks of their own, the longest first: the stack that the others share costs a tenth of a core even
while nothing uses it. The fuzzer and the fault run ask as much as they can in their time: files that mostly wait begin
together with them."""


FOLDERS = ("unit", "client", "workflows", "faults", "monitoring", "e2e", "db", "api", "console")
"""The others by folder: first what needs no stack, so that none idles; last the shortest files."""


BEGUN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Spare the disk: a Postgres that is killed loses nothing by it, only one whose machine goes down.

    The processes of a run share the folder with what their stacks begin with.
    """
    postgres.OPTIONS["fsync"] = "off"
    if worker := getattr(config, "workerinput", None):
        begun.home = Path(worker["begun"])
    else:
        folder = tempfile.TemporaryDirectory(prefix="gpu-orchestrator-begun-")
        config.stash[BEGUN] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a process of the run the folder with what its stacks begin with."""
    node.workerinput["begun"] = node.config.stash[BEGUN]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first and the short ones last, so that all processes end together."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(here).with_suffix("").as_posix()
        return LONG.index(name) if name in LONG else len(LONG) + FOLDERS.index(name.partition("/")[0])

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Don't look for garbage while tests are collected, which takes half of the time; nor later among what was made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


async def eventually(check: Callable[[], Awaitable[Any]], *, within: float = 20.0) -> Any:
    """The first true answer of `check`; fails with the last one after `within` seconds.

    What takes longer is asked about less often: most calls cost the machine 10 ms, which others wait for.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    while not (answer := await check()):
        waited = clock() - began
        assert waited < within, f"still {answer!r} after {within} s"
        await asyncio.sleep(min(0.05 + waited / 20, 0.25))
    return answer


@dataclass
class Api:
    """The API as a frontend sees it."""

    http: httpx.AsyncClient
    stack: Stack
    key: str
    contract: Contract | None = None  # checks every answer against the OpenAPI document
    made: MadeKey | None = None  # what is known of the key, unless it is the bootstrap key

    async def ask(self, method: str, path: str, *, code: int = 200, **options: Any) -> Any:
        """Call, check status, envelope, their agreement, and that the answer is documented; the envelope's data."""
        response = await self.http.request(method, path, **options)
        body = response.json()
        assert (response.status_code, body["code"]) == (code, code), (path, response.status_code, body)
        assert list(body) == ["code", "message", "data"]
        if self.contract is not None:
            self.contract.check(response)
        return body["data"]

    async def get(self, path: str, **options: Any) -> Any:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return await self.ask("POST", path, json=body, **options)

    async def create(self, task_type: int, payload: str = '{"n": 1}', **more: Any) -> str:
        self._own(task_type)
        body = {"taskType": task_type, "userId": "user_001", "app": "tests", "payload": payload, **more}
        task_id: str = (await self.post("/tasks", body))["taskId"]
        return task_id

    def _own(self, task_type: int) -> None:
        """Fail where another file of tests uses the type on this stack: its nodes would get what this one leaves."""
        file = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]
        owner = TYPES_IN_USE.setdefault((self.stack.api_url, task_type), file)
        assert file == owner or task_type in ANYBODYS, f"{file} and {owner} both use {task_type}"

    async def until(self, task_id: str, *statuses: str, within: float = 20.0) -> Any:
        async def check() -> Any:
            task = await self.get(f"/tasks/{task_id}")
            return task if task["status"] in statuses else None

        try:
            return await eventually(check, within=within)
        except AssertionError as error:
            timeline = await self.get(f"/tasks/{task_id}/events?size=100")
            raise AssertionError("\n".join(map(str, (f"{task_id} is not {statuses}:", *timeline)))) from error

    async def gpu_until(self, gpu_id: str, status: str, within: float = 20.0) -> Any:
        async def check() -> Any:
            gpu = await self.get(f"/gpus/{gpu_id}")
            return gpu if gpu["status"] == status else None

        return await eventually(check, within=within)

    async def alerts(self, about: str) -> list[Any]:
        """The alerts whose message holds this name, the newest first."""
        return [one for one in await self.get("/monitoring/alerts?size=100") if about in one["message"]]

    async def register(self, node: FakeNode, types: list[int], **more: Any) -> None:
        body = {
            "gpuId": node.gpu_id,
            "hostname": "test-host",
            "ip": "127.0.0.1",
            "port": node.port,
            "supportedTaskTypes": types,
            "supportedTaskPriority": "NORMAL",
            "version": "1.0.0",
            "maxConcurrentTasks": 1,
            "metadata": {"gpuModel": "RTX 4090"},
            **more,
        }
        for task_type in types:
            self._own(task_type)
        assert await self.post("/gpus/register", body) == "GPU注册成功"

    async def report(self, put: Any, kind: str, body: Any, *, code: int = 200, token: bool = True) -> Any:
        headers = {"X-Attempt-Token": put.token} if token else {}
        return await self.post(f"/tasks/{put.task_id}/{kind}", body, headers=headers, code=code)

    async def succeed(self, put: Any, result: Any, **options: Any) -> Any:
        return await self.report(put, "result", {"result": json.dumps(result)}, **options)

    async def say(self, put: Any, status: str, message: str = "", **options: Any) -> Any:
        extra = {key: options.pop(key) for key in list(options) if key in {"progress", "rejected"}}
        body = {"status": status, "gpuId": put.gpu_id, "message": message, **extra}
        return await self.report(put, "status", body, **options)


MakeNode = Callable[..., Awaitable[FakeNode]]
MakeCaller = Callable[..., Awaitable[Api]]


@asynccontextmanager
async def frontend(stack: Stack, url: str | None = None, key: str | None = None) -> AsyncIterator[Api]:
    """A caller of the stack's API, or of another API process at `url`; an administrator, unless a key is given."""
    key = key or stack.api_key.secret.get_secret_value()
    async with connected(url or stack.api_url, key) as http:
        yield Api(http, stack, key, contract((await http.get(f"{stack.api_url}/openapi.json")).text))


@cache
def contract(document: str) -> Contract:
    """The contract of a document, whose validators are built once for all callers."""
    return Contract(json.loads(document))


def connected(url: str, key: str) -> httpx.AsyncClient:
    """A client of the API at `url`; it has up to a hundred connections at once."""
    return httpx.AsyncClient(
        base_url=f"{url}/api/v2",
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
        timeout=20,
        verify=TLS,
    )


@asynccontextmanager
async def callers(stack: Stack, url: str | None = None) -> AsyncIterator[MakeCaller]:
    """Makes callers with keys of their own; each has its `made` key."""
    database = Database(stack.services.database_url, connections=2)
    async with AsyncExitStack() as open_callers:

        async def make(role: str, owner: str = "somebody", **options: Any) -> Api:
            key = NewKey(Role(role), owner, **options)
            made = await database.run(lambda c: api_keys.create(c, key, Actor(None, "tests", None)))
            caller = await open_callers.enter_async_context(frontend(stack, url, made.secret))
            caller.made = made
            return caller

        yield make
    await database.close()


@asynccontextmanager
async def fleet(api: Api) -> AsyncIterator[MakeNode]:
    """Makes foreign nodes: they beat, and are deregistered at the end."""
    nodes: list[FakeNode] = []
    every_s = api.stack.settings.heartbeat_timeout / 6
    # Beats have connections of their own: a burst of a test's own calls would hold them up until the nodes seem silent.
    async with connected(api.stack.api_url, api.key) as beating:

        async def make(gpu_id: str, types: list[int], *, beats: bool = True, **more: Any) -> FakeNode:
            node = FakeNode(gpu_id)
            await node.start()
            nodes.append(node)
            await api.register(node, types, **more)
            if beats:
                node.beat_with(lambda: beating.post(f"/gpus/{gpu_id}/heartbeat"), every_s)
            return node

        try:
            yield make
        finally:
            for node in nodes:
                await node.stop()
                await api.http.delete(f"/gpus/{node.gpu_id}")


@asynccontextmanager
async def thrown_away(stack: Stack) -> AsyncIterator[Stack]:
    """Run a stack without nodes whose end is not examined: its processes are killed at once.

    Postgres alone stops by itself, since it would leave shared memory behind.
    """
    async with stack:
        try:
            yield stack
        finally:
            for name in ("api", "worker", "temporal", "redis"):
                stack.part(name).abandon()


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings = stack_settings(begun.begun(tmp_path_factory.mktemp("stack")))
    async with thrown_away(Stack(settings, nodes=0)) as running:
        yield running


@pytest.fixture(scope="session")
async def api(stack: Stack) -> AsyncIterator[Api]:
    async with frontend(stack) as caller:
        yield caller


@pytest.fixture(scope="session")
async def temporal(stack: Stack) -> Client:
    return await Client.connect(stack.services.temporal_address, namespace=stack.services.temporal_namespace)


@pytest.fixture
async def make_caller(stack: Stack) -> AsyncIterator[MakeCaller]:
    async with callers(stack) as make:
        yield make


@pytest.fixture
async def make_node(api: Api) -> AsyncIterator[MakeNode]:
    async with fleet(api) as make:
        yield make

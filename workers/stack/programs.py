"""Our own programs as parts of the stack: migrate, worker, api and the local node agents."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConnectConfig
from temporalio.service import RPCError

from infra.data_dir.embedded import foreign_prefixes
from infra.data_dir.layout import DataDir
from infra.settings import ENV_PREFIX, Settings
from infra.temporal import access
from workers.demo.folder import VARIABLE as DEMO_FOLDER
from workers.stack.node_key import ensure_node_key
from workers.stack.part import PartSpec
from workers.stack.process import foreign_environment, run_to_end
from workers.stack.services import Services

NODE_SLOTS = 2
NODE_HANDLERS = {  # task type -> the function that does the work
    2: "workers.demo.handlers:transform_image",
    3: "workers.demo.handlers:render_tile",
}
NODE_DRAIN = 1.0  # s for running work when the stack stops; it is handed back after that
SAMPLE = "landscape.png"
"""The first picture in the folder of the local nodes' work."""
LONGEST_BEAT, BEATS = 10.0, 4  # s between two beats of a node, and at least as many within the grace
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The context of clients that speak plain HTTP: to load the usual authorities for each costs 27 ms of CPU."""


def environment(settings: Settings, services: Services, data_dir: DataDir, key: SecretStr) -> dict[str, str]:
    """The environment of worker, api and migrate: ours, this stack's settings, the addresses and the key."""
    kept = {"api_key", "data_dir"}
    chosen = settings.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True, exclude=kept)
    overrides = {
        **({"temporal_ui_url": services.temporal_ui_url} if services.temporal_ui_url else {}),
        **chosen,
        "data_dir": str(data_dir.root),
        "database_url": services.database_url,
        "redis_url": services.redis_url,
        "temporal_address": services.temporal_address,
        "temporal_namespace": services.temporal_namespace,
        "api_key": key.get_secret_value(),
    }
    ours = foreign_environment(foreign_prefixes(settings))
    return {**ours, **{ENV_PREFIX + name.upper(): _text(value) for name, value in overrides.items()}}


def programs(settings: Settings, services: Services, env: dict[str, str]) -> list[list[PartSpec]]:
    """The schema first, then the worker and the API together."""
    migrate = PartSpec("migrate", _command("migrate"), env=env, once=True)
    worker = PartSpec("worker", _command("worker"), env=env, ready=_polls(settings, services))
    api = PartSpec("api", _command("api"), env=env, ready=_answers(f"{settings.local_url}/readyz"))
    return [[migrate], [worker, api]]


@dataclass(frozen=True, slots=True)
class LocalNodes:
    """The nodes of the stack itself: gpu_001, gpu_002, …"""

    count: int
    folder: Path | None = None  # that their work reads and writes, or None for DATA_DIR/demo

    @property
    def names(self) -> list[str]:
        """The gpuIds of the nodes."""
        return [f"gpu_{number:03}" for number in range(1, self.count + 1)]


def nodes(local: LocalNodes, settings: Settings, services: Services, data_dir: DataDir) -> list[PartSpec]:
    """The agents. They know a node's key and the API's address, and none of its settings."""
    folder = (local.folder or data_dir.demo).resolve()
    env = {**foreign_environment(), DEMO_FOLDER: str(folder)}

    async def prepare() -> None:
        await ensure_node_key(services.database_url, data_dir.node_key, local.names)

    async def prepare_first() -> None:
        await prepare()
        if local.folder is None and not (folder / SAMPLE).exists():
            await run_to_end(_module("workers.demo.samples", str(folder / SAMPLE)), lambda line: None, env=env)

    return [
        PartSpec(
            name,
            _node_command(name, settings, data_dir),
            env=env,
            cwd=data_dir.nodes,  # work is imported from where its agent is: not from where we happen to be
            prepare=prepare_first if name == local.names[0] else prepare,
            grace=NODE_DRAIN + 1.5,
        )
        for name in local.names
    ]


def _node_command(name: str, settings: Settings, data_dir: DataDir) -> tuple[str, ...]:
    handlers = [word for number, path in NODE_HANDLERS.items() for word in ("--handler", f"{number}={path}")]
    where = ("--api", settings.local_url, "--port", "0", "--state-dir", str(data_dir.nodes / name))
    key = ("--key-file", str(data_dir.node_key))
    beats = ("--heartbeat-interval", str(min(LONGEST_BEAT, settings.heartbeat_timeout / BEATS)))
    limits = ("--slots", str(NODE_SLOTS), "--drain-timeout", str(NODE_DRAIN))
    return _command("node", "--gpu-id", name, *key, *limits, *beats, *where, *handlers)


def _command(*words: str) -> tuple[str, ...]:
    return _module("workers.cli", *words)


def _module(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name, *words)  # -P: nothing is imported from where we happen to be


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _answers(url: str) -> Callable[[], Awaitable[bool]]:
    """Ready when GET of this URL answers 200."""

    async def ready() -> bool:
        answer = await _ask("GET", url)
        return answer is not None and answer.status_code == httpx.codes.OK

    return ready


async def is_refused(settings: Settings, key: SecretStr) -> bool:
    """Whether the running API refuses this key."""
    answer = await _ask("GET", f"{settings.local_url}/api/v2/cluster/status", key)
    return answer is not None and answer.status_code == httpx.codes.UNAUTHORIZED


async def console_url(settings: Settings, key: SecretStr) -> str:
    """A link to the console that signs in once; without the API, or with a key that it refuses, the plain address."""
    answer = await _ask("POST", f"{settings.local_url}/console/links", key)
    if answer is None or answer.status_code != httpx.codes.OK:
        return f"{settings.local_url}/console"
    return f"{settings.local_url}{answer.json()['data']['path']} (signs in once)"


async def _ask(method: str, url: str, key: SecretStr | None = None) -> httpx.Response | None:
    """The answer of the stack's own API, past any proxy; None without one."""
    headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False, headers=headers, verify=NO_TLS) as client:
            return await client.request(method, url)
    except httpx.HTTPError:
        return None


def _polls(settings: Settings, services: Services) -> Callable[[], Awaitable[bool]]:
    """Ready when a worker polls our queue in Temporal for workflow tasks."""
    request = DescribeTaskQueueRequest(
        namespace=services.temporal_namespace,
        task_queue=TaskQueue(name=settings.task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )

    async def ready() -> bool:
        try:
            client = await Client.connect(**_access(settings, services))
            return bool((await client.workflow_service.describe_task_queue(request)).pollers)
        except (RuntimeError, RPCError):  # RuntimeError: no connection
            return False

    return ready


def _access(settings: Settings, services: Services) -> ClientConnectConfig:
    if settings.temporal_address is not None:
        return access.options(settings)
    return {"target_host": services.temporal_address, "namespace": services.temporal_namespace}

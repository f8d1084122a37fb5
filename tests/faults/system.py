"""The system under test: the embedded services, two API processes, two workers, three real agents, and our proxies."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from infra.data_dir.layout import DataDir
from infra.settings import Settings
from tests.begun import begun
from tests.faults.plan import HTTP, POSTGRES, Plan
from tests.faults.proxy import Proxy, is_commit, is_http_request, to_path, to_port
from tests.faults.work import TYPES
from workers.stack import programs
from workers.stack.logs import Log
from workers.stack.part import Part, PartSpec
from workers.stack.ports import free_port
from workers.stack.process import foreign_environment
from workers.stack.services import Services, addresses, embedded_parts, embedded_ports
from workers.stack.supervisor import Supervisor

KEY = "the-key-of-the-fault-harness-0123456789"
SOCKET = ".s.PGSQL.5432"
NODES = ("gpu_001", "gpu_002", "gpu_003")
SLOTS = 4
PARTS = ("api", "api_2", "worker", "worker_2", *NODES, "postgres", "redis", "temporal")


@dataclass(frozen=True)
class System:
    """All running parts by name, and where they are reached: by clients through the proxy, by us directly."""

    parts: dict[str, Part]
    proxies: dict[str, Proxy]
    url: str  # of the API, through the proxy
    settings: Settings
    services: Services
    node_logs: list[Path]

    def break_network(self, *, broken: bool) -> None:
        """Switch the proxies' faults."""
        for proxy in self.proxies.values():
            proxy.faulty = broken


@asynccontextmanager
async def running(plan: Plan, folder: Path, log: Log) -> AsyncIterator[System]:
    """Run from the first start to the last stop."""
    settings = _settings(folder)
    layout = DataDir.create(settings.data_dir)
    services = addresses(settings, layout)
    ports = [settings.port, free_port()]
    async with AsyncExitStack() as held:
        http = Proxy([to_port(port) for port in ports], HTTP, plan.chance("http"), is_http_request)
        url = f"http://127.0.0.1:{await http.listen_on_port()}"
        held.push_async_callback(http.close)
        upstream = layout.sockets / "postgres" / SOCKET
        postgres = Proxy([to_path(upstream)], POSTGRES, plan.chance("postgres"), is_commit)
        between = layout.sockets / "proxy"
        between.mkdir(mode=0o700, parents=True, exist_ok=True)
        await postgres.listen_on_path(between / SOCKET)
        held.push_async_callback(postgres.close)
        proxied = replace(services, database_url=services.database_url.replace(str(upstream.parent), str(between)))
        waves = [embedded_parts(settings, layout), *_programs(settings, proxied, layout, ports), _nodes(url, layout)]
        supervisor = await held.enter_async_context(Supervisor(layout, waves, embedded_ports(settings), log))
        yield System(
            parts={name: supervisor.parts[name] for name in PARTS},
            proxies={"http": http, "postgres": postgres},
            url=url,
            settings=settings,
            services=services,
            node_logs=[layout.nodes / name for name in NODES],
        )


def _settings(folder: Path) -> Settings:
    """Settings in a hurry: what takes minutes by default takes seconds here."""
    chosen: dict[str, Any] = {
        "data_dir": begun(folder / "data"),
        "mode": "development",
        "api_key": KEY,
        "database_url": None,
        "redis_url": None,
        "temporal_address": None,
        "port": free_port(),
        "temporal_port": free_port(),
        "temporal_ui_port": free_port(),
        "heartbeat_timeout": 4,
        "monitor_interval": 2,
        "leader_lease": 3,
        "instance_timeout": 5,
        "task_timeout": 20_000,
        "max_retries": 10,
    }
    return Settings(**chosen)


def _programs(settings: Settings, services: Services, layout: DataDir, ports: list[int]) -> list[list[PartSpec]]:
    """Two of each; the second API listens on the second port."""
    key = SecretStr(KEY)
    first, second = (settings.model_copy(update={"port": port}) for port in ports)
    migrate, both = programs.programs(first, services, programs.environment(first, services, layout, key))
    again = programs.programs(second, services, programs.environment(second, services, layout, key))[1]
    return [migrate, [*both, *(replace(spec, name=f"{spec.name}_2") for spec in again)]]


def _nodes(url: str, layout: DataDir) -> list[PartSpec]:
    env = foreign_environment() | {"ORCHESTRATOR_NODE_KEY": KEY}
    return [PartSpec(name, _node(name, url, layout), env=env, grace=3) for name in NODES]


def _node(name: str, url: str, layout: DataDir) -> tuple[str, ...]:
    where = ("--api", url, "--port", "0", "--state-dir", str(layout.nodes / name))
    limits = ("--slots", str(SLOTS), "--drain-timeout", "1", "--heartbeat-interval", "0.5")
    work = [word for number in TYPES for word in ("--handler", f"{number}=tests.faults.work:run")]
    return (sys.executable, "-m", "workers.cli", "node", "--gpu-id", name, *where, *limits, *work)

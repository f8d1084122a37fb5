"""The embedded stack for real: readiness, kills, taken ports, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from redis.asyncio import Redis
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus

from infra.data_dir.errors import DataDirInUse
from infra.settings import Settings
from infra.temporal import search_attributes
from workers.stack.ports import free_port
from workers.stack.services import Services
from workers.stack.stack import Stack
from workers.waiting import until

NAMESPACE = "stack-test"
STOP_LIMIT = 10.0  # s, the contract of Ctrl-C


def services_in(data_dir: Path) -> Stack:
    """The services only, all embedded and on free ports."""
    settings = Settings(
        data_dir=data_dir,
        database_url=None,
        redis_url=None,
        temporal_address=None,
        temporal_namespace=NAMESPACE,
        temporal_port=free_port(),
        temporal_ui_port=free_port(),
    )
    return Stack(settings, with_programs=False)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with services_in(tmp_path_factory.mktemp("stack") / "c++, 50%25 & a#b") as running:
        yield running


async def database(services: Services) -> psycopg.AsyncConnection:
    url = services.database_url.replace("postgresql+psycopg", "postgresql")
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def temporal_client(services: Services) -> Client:
    return await Client.connect(services.temporal_address, namespace=services.temporal_namespace)


async def test_postgres_answers_over_a_socket_that_only_its_owner_can_pass(stack: Stack) -> None:
    async with await database(stack.services) as connection:
        row = await (await connection.execute("SELECT current_setting('listen_addresses'), version()")).fetchone()
    assert row is not None
    assert row[0] == ""
    assert "PostgreSQL 18" in row[1]
    folder = stack.data_dir.sockets / "postgres"
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_redis_answers(stack: Stack) -> None:
    async with Redis.from_url(stack.services.redis_url) as client:
        assert await client.ping()


async def test_temporal_knows_the_search_attributes(stack: Stack) -> None:
    client = await temporal_client(stack.services)
    answer = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=NAMESPACE))
    known = {name: IndexedValueType.Name(kind) for name, kind in answer.custom_attributes.items()}
    assert known == {name: f"INDEXED_VALUE_TYPE_{kind.upper()}" for name, kind in search_attributes.WANTED.items()}


async def test_the_web_ui_answers(stack: Stack) -> None:
    assert stack.services.temporal_ui_url is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(stack.services.temporal_ui_url)).status_code == 200


async def test_killed_services_come_back_at_the_same_address_with_their_state(stack: Stack) -> None:
    async with await database(stack.services) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    client = await temporal_client(stack.services)
    await client.start_workflow("nobody-runs-it", id="kept", task_queue="nobody-polls")

    killed = [stack.part("postgres"), stack.part("temporal")]
    pids = [part.pid for part in killed]
    for part in killed:
        part.kill(signal.SIGKILL)
    for part in killed:
        await part.until_ready(20)

    assert all(part.pid not in (None, *pids) for part in killed)
    async with await database(stack.services) as connection:
        assert await (await connection.execute("SELECT answer FROM kept")).fetchone() == (42,)
    kept = await (await temporal_client(stack.services)).get_workflow_handle("kept").describe()
    assert kept.status == WorkflowExecutionStatus.RUNNING


async def test_a_second_stack_on_the_same_data_directory_is_refused(stack: Stack) -> None:
    with pytest.raises(DataDirInUse, match=f"in use by the stack of process {os.getpid()}"):
        async with services_in(stack.data_dir.root):
            pass


def names(processes: list[psutil.Process]) -> Iterator[str]:
    """Names of the processes that still run: Postgres' workers come and go."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            yield process.name()


async def test_services_stop_in_time_and_leave_no_process(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    async with services_in(tmp_path / "data"):
        started = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
        assert {"postgres", "redis-server", "temporal"} <= set(names(started))
        asked = time.monotonic()
    assert time.monotonic() - asked < STOP_LIMIT
    assert not [process for process in started if process.is_running()]


@dataclass(frozen=True)
class Running:
    """A `run` in a process of its own, with what it started."""

    process: asyncio.subprocess.Process
    ready: str
    children: list[psutil.Process]

    def survivors(self) -> list[psutil.Process]:
        return [child for child in self.children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


SERVICES_ONLY = """
import asyncio
from infra.settings import Settings
from workers.stack.run import serve
from workers.stack.stack import Stack
raise SystemExit(asyncio.run(serve(Stack(Settings(), with_programs=False))))
"""


FOREIGN = {
    "PGSERVICE": "no-such-service",
    "PGSERVICEFILE": "/nowhere",
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "6543",
    "PGUSER": "somebody",
    "PGDATABASE": "theirs",
    "PGOPTIONS": "-c no.such=setting -c default_transaction_read_only=on",
    "PGSSLMODE": "verify-full",
    "PGDATA": "/nowhere",
    "TEMPORAL_ADDRESS": "192.0.2.1:7233",
    "TEMPORAL_NAMESPACE": "theirs",
    "TEMPORAL_TLS": "true",
    "TEMPORAL_CONFIG_FILE": "/nowhere",
    "TEMPORAL_PROFILE": "theirs",
    "REDIS_URL": "redis://192.0.2.1",
    "DATABASE_URL": "postgresql://192.0.2.1/theirs",
}
"""The shell's variables of a user with services of their own."""


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")} | FOREIGN
    chosen = {"data_dir": data_dir, "temporal_port": free_port(), "temporal_ui_port": free_port(), **settings}
    return kept | {f"ORCHESTRATOR_{name.upper()}": str(value) for name, value in chosen.items()}


@asynccontextmanager
async def run_elsewhere(data_dir: Path) -> AsyncIterator[Running]:
    """The services under a supervisor of their own, from its ready line on; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVICES_ONLY),
        env=environment(data_dir),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            output = await process.stdout.readuntil(b"ready: ") + await process.stdout.readline()
        yield Running(process, output.decode(), psutil.Process(process.pid).children(recursive=True))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_it_in_time_with_status_0_and_no_process_left(tmp_path: Path, number: int) -> None:
    async with run_elsewhere(tmp_path / "data") as running:
        asked = time.monotonic()
        running.process.send_signal(number)
        assert await running.process.wait() == 0
        assert time.monotonic() - asked < STOP_LIMIT
        assert len(running.children) >= 3
        assert running.survivors() == []


async def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_works(tmp_path: Path) -> None:
    async with run_elsewhere(tmp_path / "data") as running:
        running.process.kill()
        await running.process.wait()
        assert await until(lambda: not running.survivors(), within=STOP_LIMIT), running.survivors()
    async with services_in(tmp_path / "data") as stack, await database(stack.services) as connection:
        await connection.execute("SELECT 1")


async def test_the_key_is_shown_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    key_file = tmp_path / "data" / "api_key"
    shown = []
    for _ in range(2):
        async with run_elsewhere(tmp_path / "data") as running:
            shown.append(running.ready)
            assert re.findall(r"^ready: .*$", running.ready, re.MULTILINE) == ["ready: http://127.0.0.1:8080"]
            assert "console: http://127.0.0.1:8080/console\n" in running.ready  # no API, so no link
            running.process.kill()
            await running.process.wait()
    key = key_file.read_text().strip()
    assert [key in output for output in shown] == [True, False]
    assert all(str(key_file) in output for output in shown)
    assert key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("setting", ["port", "temporal_port", "temporal_ui_port"])
async def test_a_taken_port_is_an_error_that_names_its_setting(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers.cli", "run"),
            env=environment(tmp_path / "data", **{"port": free_port(), setting: port}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert process.returncode == 2
    assert output == b""
    assert f"port {port} on 127.0.0.1 is taken: set ORCHESTRATOR_{setting.upper()} to a free one" in errors.decode()

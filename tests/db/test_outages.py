"""Outages as a caller sees them, and how soon calls succeed after one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from infra.db.session import Database, DatabaseSilent, conninfo, is_unavailable
from tests.db.sessions import Sessions
from tests.db.test_session import pid_of, pids_at_once
from tests.faults.proxy import Chances, Proxy, is_commit, to_path
from workers.stack.ports import free_port

SOCKET = ".s.PGSQL.5432"


@pytest.fixture
async def away() -> AsyncIterator[Database]:
    """One whose Postgres refuses connections."""
    found = Database(f"postgresql://u@127.0.0.1:{free_port()}/x")
    yield found
    await found.close()


async def test_callers_learn_at_once_that_postgres_refuses(away: Database) -> None:
    began = time.monotonic()
    heard = await asyncio.gather(*(away.single(pid_of) for _ in range(30)), return_exceptions=True)
    heard.append((await asyncio.gather(away.run(pid_of), return_exceptions=True))[0])
    assert time.monotonic() - began < 2
    assert all(isinstance(one, DatabaseSilent) and is_unavailable(one) for one in heard)
    assert "refused" in str(heard[0])


@asynccontextmanager
async def reachable(engine: Sessions, folder: Path) -> AsyncIterator[None]:
    """Postgres can be reached through this folder meanwhile; at the end its connections are cut."""
    path = Path(str(conninfo_to_dict(conninfo(engine.url))["host"])) / SOCKET
    proxy = Proxy([to_path(path)], Chances(), Random(1), is_commit)
    await proxy.listen_on_path(folder / SOCKET)
    try:
        yield
    finally:
        await proxy.close()
        (folder / SOCKET).unlink(missing_ok=True)


async def seconds_of(database: Database) -> float:
    """How long it takes until a call succeeds, over all tries."""
    began = time.monotonic()
    while True:
        try:
            await database.run(pid_of)
        except Exception as error:  # noqa: BLE001
            assert is_unavailable(error)  # noqa: PT017
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - began


async def test_in_an_outage_calls_fail_at_once_and_after_it_succeed_within_two_seconds(engine: Sessions) -> None:
    with TemporaryDirectory() as name:  # pytest's own are too long for a socket
        folder = Path(name)
        database = Database(f"postgresql://postgres@/of_the_tests?host={folder}")
        async with reachable(engine, folder):
            await pids_at_once(database, 3)
        began, longest_s = time.monotonic(), 0.0
        while time.monotonic() < began + 3:  # longer than the pool itself tries
            before = time.monotonic()
            with pytest.raises((psycopg.Error, DatabaseSilent)):
                await database.run(pid_of)
            longest_s = max(longest_s, time.monotonic() - before)
            await asyncio.sleep(0.05)
        assert longest_s < 1
        async with reachable(engine, folder):
            assert await seconds_of(database) < 2
        await database.close()

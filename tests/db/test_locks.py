"""The advisory locks of task types: their number, their order, and what they block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

import pytest
from psycopg import OperationalError

from infra.db import locks
from infra.db.locks import TYPES
from infra.db.nodes.queries import Registration
from infra.db.session import Database
from infra.db.transactions import node_state, settle_attempt
from tests.conftest import eventually
from tests.db import rows
from tests.db.sessions import Session, Sessions, untyped
from workflows.domain.attempt import End, Outcome

MANY = [number * 7919 - 4_000_000 for number in range(1000)]  # as nodes might have before there was a limit
HELD = (
    "SELECT count(*) AS n, count(DISTINCT objid) AS locks FROM pg_locks WHERE locktype = 'advisory' AND classid = 7101"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted = %(granted)s"
)


async def held(database: Database, *, granted: bool = True) -> tuple[int, int]:
    """How many locks of types are held or waited for, and how many different ones."""
    [(taken, different)] = await database.run(lambda c: untyped(c, HELD, {"granted": granted}))
    return taken, different


@asynccontextmanager
async def begun(engine: Sessions, count: int) -> AsyncIterator[list[Session]]:
    """Transactions that are rolled back."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(engine.connect()) for _ in range(count)]
        yield connections
        for connection in connections:
            await connection.rollback()


async def register(connection: Session, gpu_id: str, types: list[int]) -> None:
    node = Registration(gpu_id, "h", None, "127.0.0.1", 1, types, "NORMAL", "1", 1, {}, None, "k")
    await node_state.register(connection, node)


async def test_registrations_of_any_number_of_types_hold_few_locks(engine: Sessions, database: Database) -> None:
    async with begun(engine, 8) as transactions:
        for number, connection in enumerate(transactions):
            await register(connection, f"many-{number}", [number * 1000 + one for one in MANY])
        assert await held(database) == (8 * TYPES, TYPES)


async def settled(connection: Session) -> None:
    await rows.node(connection, "legacy", task_types=MANY, max_concurrent_tasks=2)
    for task_id in ("legacy-1", "legacy-2"):
        await rows.task(connection, task_id, task_type=MANY[0], attempts=1)
    await rows.attempt(connection, "legacy-1", gpu_id="legacy")
    await rows.attempt(connection, "legacy-2", gpu_id="legacy", slot=2)
    await settle_attempt.close_open(connection, "legacy", End(Outcome.LOST), actor="test")


async def recovered(connection: Session) -> None:
    await rows.node(connection, "legacy", task_types=MANY, status="FAULTY")
    await node_state.recover(connection, "legacy")


async def came_back(connection: Session) -> None:
    await rows.node(connection, "legacy", task_types=MANY, status="OFFLINE")
    await node_state.come_back(connection, "legacy")


@pytest.mark.parametrize("frees", [settled, recovered, came_back])
async def test_a_node_with_many_types_goes_on_working_with_few_locks(
    engine: Sessions, database: Database, frees: Callable[[Session], Awaitable[None]]
) -> None:
    async with begun(engine, 1) as (connection,):
        await frees(connection)
        assert await held(database) == (TYPES, TYPES)


async def test_they_are_taken_in_order_and_before_any_row(engine: Sessions, database: Database) -> None:
    """Two that take several never block each other: the first one waited for is the first of all."""
    async with begun(engine, 2) as (missing, registering):
        await locks.type_exclusively(missing, 2 * TYPES)  # the first lock of all
        waits = asyncio.create_task(register(registering, "ordered", list(range(TYPES))[::-1]))

        async def waiting() -> bool:
            return await held(database, granted=False) == (1, 1)

        try:
            await eventually(waiting, within=5)
            assert await held(database) == (1, 1)
        finally:
            await missing.rollback()
            await waits


@pytest.mark.parametrize(("task_type", "blocks"), [(5, True), (5 + TYPES, True), (5 - TYPES, True), (6, False)])
async def test_a_miss_blocks_the_releases_that_share_its_lock(
    engine: Sessions, task_type: int, *, blocks: bool
) -> None:
    async with begun(engine, 2) as (missing, registering):
        await locks.type_exclusively(missing, 5)
        await registering.execute("SET LOCAL lock_timeout = '50ms'")
        with pytest.raises(OperationalError, match="lock timeout") if blocks else nullcontext():
            await locks.releasing_by_registration(registering, "none", [task_type])

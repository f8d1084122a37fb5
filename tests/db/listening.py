"""A listener on the database of these tests, and an attempt that is to be dispatched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text

from infra.db import attempts
from infra.db.closings import Closings
from infra.db.connection import Connection
from infra.db.engine import Database
from infra.db.notifications import Notifications
from tests.conftest import eventually
from tests.db import rows
from tests.db.sessions import Sessions
from workflows.domain.attempt import Outcome

HELD = ("held", 1)


@asynccontextmanager
async def listening(database_url: str) -> AsyncIterator[Closings]:
    """One that hears."""
    listener = Closings(database_url)
    running = asyncio.create_task(listener.run())
    await eventually(lambda: hears(listener))
    try:
        yield listener
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def held(engine: Sessions) -> AsyncIterator[Database]:
    """A database with one task, which holds a slot."""
    found = Database(engine.url)

    async def begin(connection: Connection) -> None:
        await connection.execute(text(rows.EMPTY))
        await rows.node(connection, "n")
        await rows.task(connection, "held", timeout_ms=60_000)
        await rows.attempt(connection, "held", gpu_id="n")

    await found.run(begin)
    try:
        yield found
    finally:
        await found.run(lambda c: c.execute(text(rows.EMPTY)))
        await found.close()


async def hears(listener: Closings) -> bool:
    return listener.hears


async def settle(database: Database) -> Notifications:
    """The node reports a result."""
    settled = await database.run(lambda c: attempts.settle(c, *HELD, Outcome.SUCCEEDED, actor="gpu:n", result="{}"))
    assert settled is not None
    return settled

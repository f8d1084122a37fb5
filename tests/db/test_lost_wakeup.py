"""The race that a scheduler loses most easily, forced: a task misses while a release is not yet committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.slots.capacity import Capacity
from infra.db.slots.outlook import Outlook
from infra.db.transactions import claim_slot, create_task, settle_attempt
from infra.db.transactions.create_task import Created
from tests.conftest import eventually
from tests.db import rows
from tests.db.sessions import Sessions
from workflows.domain.attempt import End, Outcome
from workflows.notifications import Notifications

BLOCKED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def busy(database: Database, task_type: int) -> None:
    """A node whose only slot is taken by the task `first-…`."""

    async def prepare(connection: Any) -> None:
        await rows.node(connection, f"crossed-{task_type}", task_types=[task_type])
        await rows.task(connection, f"first-{task_type}", task_type=task_type, attempts=1)
        await rows.attempt(connection, f"first-{task_type}", gpu_id=f"crossed-{task_type}")

    await database.run(prepare)


async def release(connection: Connection, task_type: int) -> Notifications:
    end = End(Outcome.SUCCEEDED, result="{}")
    return (await settle_attempt.settle(connection, f"first-{task_type}", 1, end, actor="test")).notifications


async def create(connection: Connection, task_type: int) -> Created:
    task = rows.new_task(f"late-{task_type}", task_type)
    capacity = Capacity(rows.ALL_TAKEN, [task_type], [], 0.1)
    return await create_task.create(connection, task, Outlook(capacity), weight=1.0, by=rows.CREATOR)


@asynccontextmanager
async def blocked_meanwhile(database: Database, work: Awaitable[Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """`work` is blocked by an open transaction, which is committed within."""

    async def blocked() -> bool:
        return bool(await database.run(lambda c: c.one(int, BLOCKED)))

    waiting = asyncio.ensure_future(work)
    try:
        await eventually(blocked, within=5)
        assert not waiting.done()
    finally:
        yield waiting


async def test_a_miss_that_crosses_a_release_sees_the_slot(engine: Sessions, database: Database) -> None:
    await busy(database, 77)
    async with engine.connect() as releasing:
        await release(releasing, 77)  # the slot is free, nobody was waiting, and nobody else can see it yet
        await database.run(lambda c: rows.task(c, "late", task_type=77, waiting_since=rows.NOW))
        async with blocked_meanwhile(database, claim_slot.claim(database.run, "late")) as looking:
            await releasing.commit()
    found = await looking
    assert found.grant is not None


async def test_a_creation_that_crosses_a_release_sees_the_slot(engine: Sessions, database: Database) -> None:
    await busy(database, 79)
    async with engine.connect() as releasing:
        await release(releasing, 79)
        async with blocked_meanwhile(database, database.run(lambda c: create(c, 79))) as creating:
            await releasing.commit()
    assert not (await creating).waits


async def test_a_release_that_crosses_a_creation_sees_the_task(engine: Sessions, database: Database) -> None:
    await busy(database, 80)
    async with engine.connect() as creating:
        assert (await create(creating, 80)).waits
        async with blocked_meanwhile(database, database.run(lambda c: release(c, 80))) as releasing:
            await creating.commit()
    assert [one.task.task_id for one in (await releasing).grants] == ["late-80"]

"""The race that a scheduler loses most easily, forced: a task misses while a release is not yet committed."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.db import attempts, claims
from infra.db.engine import Database
from tests.conftest import eventually
from tests.db import rows
from workflows.domain.attempt import Outcome

BLOCKED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def test_a_miss_that_crosses_a_release_sees_the_slot(engine: AsyncEngine) -> None:
    database = Database(engine)

    async def prepare(connection):
        await rows.node(connection, "crossed", task_types=[77])
        await rows.task(connection, "first", task_type=77, attempts=1)
        await rows.attempt(connection, "first", gpu_id="crossed")

    await database.run(prepare)
    async with engine.connect() as release:
        await attempts.settle(
            release, "first", 1, Outcome.SUCCEEDED, actor="test", result="{}", strict_vip=False
        )  # the slot is free, nobody was waiting, and nobody else can see it yet
        await database.run(lambda c: rows.task(c, "late", task_type=77, waiting_since=text("clock_timestamp()")))
        looking = asyncio.create_task(claims.claim(database.run, "late", strict_vip=False))

        async def blocked() -> bool:
            return bool((await database.run(lambda c: c.execute(text(BLOCKED)))).scalar_one_or_none())

        try:
            await eventually(blocked, within=5)
            assert not looking.done()
        finally:
            await release.commit()
    found = await looking
    assert (found.grant is not None, found.waiting) == (True, False)

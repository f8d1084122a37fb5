"""A task whose workflow has looked for a slot is no outbox entry any more, however it came by its slot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db import claims, handover
from infra.db.claims import Claim
from tests.db import rows

STARTED = text("SELECT engine_started_at IS NOT NULL FROM tasks WHERE task_id = 'asks'")


@pytest.mark.parametrize("slot", ["granted before it asked", "free", "none"])
async def test_it_is_noted_as_started(connection: AsyncConnection, slot: str) -> None:
    async def here(work: Callable[[AsyncConnection], Awaitable[Claim]]) -> Claim:
        return await work(connection)

    await rows.task(connection, "asks", task_type=78, waiting_since=text("clock_timestamp()"))
    if slot != "none":
        await rows.node(connection, "node", task_types=[78])
    if slot == "granted before it asked":
        assert await handover.hand_over(connection, "node", strict_vip=False)
        assert not await connection.scalar(STARTED)
    found = await claims.claim(here, "asks", strict_vip=False)
    assert (found.grant is not None, found.waiting) == (slot != "none", slot == "none")
    assert await connection.scalar(STARTED)

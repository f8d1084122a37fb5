"""A task whose first look is put off is nothing that was forgotten."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db import first_looks, reconciling
from tests.db import rows

AGE_S = 5.0
OLD = text("clock_timestamp() - interval '1 hour'")


async def not_started(connection: AsyncConnection) -> set[str]:
    return {row.task_id for row in await reconciling.not_started(connection, AGE_S)}


async def test_it_is_asked_for_once_it_is_due(connection: AsyncConnection) -> None:
    for name in ("lost", "put-off", "just-due", "due"):
        await rows.task(connection, name, created_at=OLD, waiting_since=OLD)
    await first_looks.record(connection, {"put-off": -900.0, "just-due": 1.0, "due": 10.0})
    assert await not_started(connection) == {"lost", "due"}


async def test_what_was_said_last_counts(connection: AsyncConnection) -> None:
    await rows.task(connection, "said", created_at=OLD, waiting_since=OLD)
    await first_looks.record(connection, {"said": 10.0})
    await first_looks.record(connection, {"said": -900.0})
    assert await not_started(connection) == set()


async def test_who_holds_a_slot_is_awaited_at_once(connection: AsyncConnection) -> None:
    await rows.task(connection, "granted", created_at=OLD)
    await first_looks.record(connection, {"granted": -900.0})
    assert await not_started(connection) == {"granted"}


@pytest.mark.parametrize(("age_s", "kept"), [(700.0, 0), (500.0, 1), (-900.0, 1)])
async def test_it_is_forgotten_long_after(connection: AsyncConnection, age_s: float, kept: int) -> None:
    await first_looks.record(connection, {"one": age_s})
    await first_looks.forget(connection, 600)
    assert await connection.scalar(text("SELECT count(*) FROM first_looks")) == kept

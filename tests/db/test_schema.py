"""The migrations build exactly the schema that is written down, and its constraints hold the invariants."""

from __future__ import annotations

import pytest
from psycopg import IntegrityError

from infra.db.schema.migrate import WRITTEN
from tests.db import rows, schema


async def test_the_whole_schema_is_written_down(stack, engine):
    built = await schema.dumped(stack, engine.url)
    assert built == WRITTEN.read_text("utf-8")


async def test_one_open_attempt_per_task(connection):
    await rows.task(connection, "t1")
    await rows.attempt(connection, "t1", attempt=1, slot=1)
    with pytest.raises(IntegrityError):
        await rows.attempt(connection, "t1", attempt=2, slot=2)


async def test_one_open_attempt_per_slot(connection):
    await rows.task(connection, "t1")
    await rows.task(connection, "t2")
    await rows.attempt(connection, "t1")
    with pytest.raises(IntegrityError):
        await rows.attempt(connection, "t2")


async def test_completed_at_is_set_exactly_on_terminal_rows(connection):
    await rows.task(connection, "t1")
    with pytest.raises(IntegrityError):
        await connection.execute("UPDATE tasks SET status = 'FAILED' WHERE task_id = 't1'")

"""The migrations build exactly the schema of `infra.db.schema.tables`, and its constraints hold the invariants."""

from __future__ import annotations

import pytest
from alembic import command
from psycopg import IntegrityError

from infra.db.schema.migrate import alembic_config, create_engine
from tests.db import rows, schema


async def test_the_migrations_match_the_tables(engine):
    alembics = create_engine(engine.url)
    async with alembics.connect() as connection:
        await connection.run_sync(lambda sync: command.check(alembic_config(sync)))
    await alembics.dispose()


async def test_the_whole_schema_is_written_down(stack, engine):
    """Also what the tables do not say: checks, predicates of indexes, defaults, functions, triggers."""
    built = await schema.dumped(stack, engine.url)
    assert built == schema.WRITTEN.read_text("utf-8")


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

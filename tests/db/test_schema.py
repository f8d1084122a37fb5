"""The migrations build exactly the schema of `infra.db.tables`, and its constraints hold the invariants."""

from __future__ import annotations

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from infra.db.migrate import alembic_config


@pytest.fixture
async def connection(stack):
    """A connection whose work is rolled back."""
    engine = create_async_engine(stack.services.database_url)
    async with engine.connect() as open_connection:
        yield open_connection
        await open_connection.rollback()
    await engine.dispose()


async def test_the_migrations_match_the_tables(connection):
    await connection.run_sync(lambda sync: command.check(alembic_config(sync)))


async def _task(connection, task_id):
    await connection.execute(
        text(
            "INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, payload, timeout_ms,"
            " max_retries, queue_rank) VALUES (:id, 1, 'QUEUED', 'u', 'a', 1, 0, '{}', 1, 0, 0)"
        ),
        {"id": task_id},
    )


async def _attempt(connection, task_id, attempt, slot):
    await connection.execute(
        text(
            "INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port)"
            " VALUES (:id, :attempt, 'g', 1, :slot, :token, '127.0.0.1', 1)"
        ),
        {"id": task_id, "attempt": attempt, "slot": slot, "token": f"{task_id}-{attempt}"},
    )


async def test_one_open_attempt_per_task(connection):
    await _task(connection, "t1")
    await _attempt(connection, "t1", 1, 1)
    with pytest.raises(IntegrityError):
        await _attempt(connection, "t1", 2, 2)


async def test_one_open_attempt_per_slot(connection):
    await _task(connection, "t1")
    await _task(connection, "t2")
    await _attempt(connection, "t1", 1, 1)
    with pytest.raises(IntegrityError):
        await _attempt(connection, "t2", 1, 1)


async def test_completed_at_is_set_exactly_on_terminal_rows(connection):
    await _task(connection, "t1")
    with pytest.raises(IntegrityError):
        await connection.execute(text("UPDATE tasks SET status = 'FAILED' WHERE task_id = 't1'"))

"""A database of these tests' own on the stack's Postgres, built by the migrations: nothing else writes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.data_dir import embedded
from infra.db.engine import Database
from infra.db.migrate import create_engine, migrate
from tests.db import rows
from tests.db.life import Life
from workers.stack.stack import Stack

NAME = "of_the_tests"


@pytest.fixture(scope="session")
async def engine(stack: Stack) -> AsyncIterator[AsyncEngine]:
    """The new database, empty but for its schema."""
    administration = create_engine(stack.services.database_url).execution_options(isolation_level="AUTOCOMMIT")
    async with administration.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {NAME}"))
    await administration.dispose()
    own = create_engine(embedded.postgres_url(stack.data_dir, NAME))
    await migrate(Database(own.url.render_as_string(hide_password=False)))
    yield own
    await own.dispose()


@pytest.fixture
async def database(engine: AsyncEngine) -> AsyncIterator[Database]:
    """What the programs run their transactions on."""
    found = Database(engine.url.render_as_string(hide_password=False))
    yield found
    await found.close()


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection whose work is rolled back."""
    async with engine.connect() as open_connection:
        yield open_connection
        await open_connection.rollback()


@pytest.fixture
async def life(connection: AsyncConnection) -> Life:
    """Nodes and tasks that are rolled back, and no others."""
    await connection.execute(text(rows.EMPTY))
    return Life(connection)

"""A database of these tests' own on the stack's Postgres, built by the migrations: nothing else writes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from infra.data_dir import embedded
from infra.db.schema.migrate import migrate
from infra.db.session import Database
from tests.db import rows
from tests.db.books import Books
from tests.db.life import Life
from tests.db.sessions import Session, Sessions
from workers.stack.stack import Stack

NAME = "of_the_tests"
FLEET = ("n1", "n2", "n3", "n4", "n5")
TIMEOUT_S = 100.0
"""The timeout of the task of `held`."""


@pytest.fixture(scope="session")
async def engine(stack: Stack) -> Sessions:
    """The new database, empty but for its schema."""
    administration = Sessions(stack.services.database_url)
    async with administration.connect(autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {NAME}")
    own = Sessions(embedded.postgres_url(stack.data_dir, NAME))
    await migrate(Database(own.url))
    return own


@pytest.fixture
async def database(engine: Sessions) -> AsyncIterator[Database]:
    """The database as the programs use it."""
    found = Database(engine.url)
    yield found
    await found.close()


@pytest.fixture
async def connection(engine: Sessions) -> AsyncIterator[Session]:
    """A connection whose work is rolled back."""
    async with engine.connect() as open_connection:
        yield open_connection
        await open_connection.rollback()


@pytest.fixture
async def life(connection: Session) -> Life:
    """Nodes and tasks that are rolled back, and no others."""
    await connection.execute(rows.EMPTY)
    return Life(connection)


@pytest.fixture
async def held(life: Life) -> Life:
    """A task that holds the slot of a node, which has not accepted it."""
    await life.node("n", [1])
    await life.create("t", max_retries=0)
    assert await life.claim("t") == "n"
    await life.do("UPDATE tasks SET timeout_ms = %(ms)s", ms=int(1000 * TIMEOUT_S))
    return life


@pytest.fixture
async def fleet(life: Life) -> Life:
    """Five nodes alike."""
    for gpu_id in FLEET:
        await life.node(gpu_id, [1])
    return life


@pytest.fixture
async def books(connection: Session) -> Books:
    """Sound books, rolled back."""
    books = Books(connection)
    await books.write()
    return books

"""Migrations while programs run: what waits, what is repeated, what an interruption leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.data_dir import embedded
from infra.db.access import api_keys, bootstrap_key
from infra.db.schema import revision as schema_revision
from infra.db.schema import upgrade as upgrading
from infra.db.schema.migrate import migrate
from infra.db.schema.revision import VERSIONS, SchemaMismatch
from infra.db.schema.upgrade import alembic_config, create_engine
from infra.db.session import Database
from infra.settings import Settings
from tests.conftest import eventually
from tests.db import rows
from workers.serving.schema import open_database, until_usable
from workers.stack.stack import Stack

NAME = "migrated"
HELD_S = 3.0
"""A call that has to wait for such a transaction waits about as long as it lasts."""
INDEX = """
from infra.db.schema.online import create_index
revision, down_revision, branch_labels, depends_on = "9001", "{head}", None, None
def upgrade():
    create_index("ix_of_the_test", "tasks", ["app", "task_id"])
"""
COLUMN = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "9001", "{head}", None, None
def upgrade():
    op.add_column("tasks", sa.Column("of_the_test", sa.Text))
"""
BREAKING = """
from infra.db.schema.online import needs_program
revision, down_revision, branch_labels, depends_on = "9001", "{head}", None, None
def upgrade():
    needs_program("9001")
"""
VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_of_the_test')")
BUILDING = text("SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'")
WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE 'ALTER TABLE tasks%'"
)


@pytest.fixture
async def url(stack: Stack) -> AsyncIterator[str]:
    """A database of the test's own, empty."""
    administration = create_engine(stack.services.database_url).execution_options(isolation_level="AUTOCOMMIT")
    async with administration.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {NAME}"))
        yield embedded.postgres_url(stack.data_dir, NAME)
        await connection.execute(text(f"DROP DATABASE {NAME} WITH (FORCE)"))
    await administration.dispose()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    found = Database(url)
    yield found
    await found.close()


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    found = create_engine(url)
    yield found
    await found.dispose()


def with_one_more(folder: Path, source: str) -> list[Path]:
    """The migrations, and one more."""
    (folder / "9001_of_the_test.py").write_text(source.format(head=schema_revision.PROGRAM))
    return [VERSIONS, folder]


@asynccontextmanager
async def in_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that has written to `tasks`, and goes on."""
    async with engine.connect() as connection:
        await connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
        await rows.task(connection, "held")
        yield connection
        await connection.rollback()


async def one(engine: AsyncEngine, statement: TextClause) -> object:
    async with engine.connect() as connection:
        return (await connection.execute(statement)).scalar_one_or_none()


async def longest_insert_s(engine: AsyncEngine, until: asyncio.Task[None]) -> float:
    """Create tasks one after the other until something has ended; how long the slowest took."""
    slowest, number = 0.0, 0
    while not until.done():
        started = time.monotonic()
        async with engine.begin() as connection:
            await rows.task(connection, f"t{number}")
        slowest, number = max(slowest, time.monotonic() - started), number + 1
        await asyncio.sleep(0.01)
    assert number > 5
    return slowest


def test_the_program_s_revision_is_that_of_its_last_migration() -> None:
    directory = ScriptDirectory.from_config(alembic_config(None))  # type: ignore[arg-type]
    assert directory.get_current_head() == schema_revision.PROGRAM
    assert all(len(one.revision) == 4 for one in directory.walk_revisions())


async def test_an_empty_database_gets_everything(database: Database, engine: AsyncEngine) -> None:
    assert await database.run(schema_revision.read) == schema_revision.Schema(None)
    await migrate(database)
    found = await database.run(schema_revision.read)
    assert found == schema_revision.Schema(schema_revision.PROGRAM, "0010")
    assert not found.is_awaited
    assert not found.is_too_new
    assert await one(engine, text("SELECT version_num FROM alembic_version")) == "0010"


@pytest.mark.parametrize("revision", ["0007", "0010"])
async def test_a_database_of_the_programs_before_is_taken_over(
    database: Database, engine: AsyncEngine, revision: str
) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: command.upgrade(alembic_config(sync, table="alembic_version"), revision))
    assert await database.run(schema_revision.read) == schema_revision.Schema(revision)
    await migrate(database)
    assert (await database.run(schema_revision.read)).revision == schema_revision.PROGRAM
    assert await one(engine, text("SELECT version_num FROM alembic_version")) == "0010"


async def test_tables_of_a_backup_over_a_later_schema_are_noticed(database: Database, engine: AsyncEngine) -> None:
    await migrate(database)
    for statement in ("ALTER TABLE tasks DROP COLUMN flow CASCADE", "DROP TABLE key_grants CASCADE"):
        async with engine.begin() as connection:
            await connection.execute(text(statement))
        with pytest.raises(SchemaMismatch, match=r"tasks\.flow.*new, empty database"):
            await migrate(database)


async def test_a_current_schema_needs_no_alembic(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long to load as all the rest of a start. A missing or a later revision still has its way."""
    await migrate(database)
    with monkeypatch.context() as patch:
        patch.setattr(upgrading, "upgrade", AsyncMock(side_effect=AssertionError))
        await migrate(database)
        with pytest.raises(AssertionError):
            await migrate(database, with_one_more(tmp_path, COLUMN))
    await migrate(database, with_one_more(tmp_path, COLUMN))
    assert (await database.run(schema_revision.read)).revision == "9001"


async def test_two_at_once(url: str, engine: AsyncEngine, tmp_path: Path) -> None:
    """The same while an index is built: the waiting migrator must hold no snapshot, or both would wait forever."""
    both = [Database(url, connections=2) for _ in range(2)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(migrate(one, with_one_more(tmp_path, INDEX)) for one in both))
    assert await one(engine, VALID) is True
    for database in both:
        await database.close()


async def test_tasks_are_created_while_an_index_is_built(
    database: Database, engine: AsyncEngine, tmp_path: Path
) -> None:
    """The build waits for a transaction that is older: longer than the time that any other lock is waited for."""
    await migrate(database)
    async with in_transaction(engine):
        migration = asyncio.create_task(migrate(database, with_one_more(tmp_path, INDEX)))
        release = asyncio.create_task(asyncio.sleep(HELD_S))
        slowest = await longest_insert_s(engine, release)
        assert not migration.done()
    await migration
    assert await one(engine, VALID) is True
    assert slowest < HELD_S / 2  # who waited for the build would have waited for its holder


async def test_tasks_are_created_while_a_column_waits_for_its_lock(
    database: Database, engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "LOCK_TIMEOUT_MS", 150)
    monkeypatch.setattr(upgrading, "FIRST_PAUSE_S", 0.05)
    await migrate(database)
    async with in_transaction(engine):
        migration = asyncio.create_task(migrate(database, with_one_more(tmp_path, COLUMN)))
        await eventually(lambda: one(engine, WAITING))
        release = asyncio.create_task(asyncio.sleep(HELD_S))
        slowest = await longest_insert_s(engine, release)
        assert not migration.done()
    await migration
    assert (await database.run(schema_revision.read)).revision == "9001"
    assert slowest < HELD_S / 2  # what it waited for, and what a busy machine adds


async def test_an_interrupted_build_is_finished_by_the_next_run(
    database: Database, engine: AsyncEngine, tmp_path: Path
) -> None:
    await migrate(database)
    versions = with_one_more(tmp_path, INDEX)
    async with in_transaction(engine):
        migration = asyncio.create_task(migrate(database, versions))
        pid = await eventually(lambda: one(engine, BUILDING))
        await one(engine, text(f"SELECT pg_terminate_backend({pid})"))
        with pytest.raises(ConnectionError):
            await migration
        assert await one(engine, VALID) is False
    await migrate(database, versions)
    assert await one(engine, VALID) is True
    assert (await database.run(schema_revision.read)).revision == "9001"
    await migrate(database, versions)  # nothing is left to do


async def test_a_later_version_can_refuse_this_one(database: Database, engine: AsyncEngine, tmp_path: Path) -> None:
    await migrate(database, with_one_more(tmp_path, BREAKING))
    found = await database.run(schema_revision.read)
    assert not found.is_awaited
    assert found.is_too_new
    assert await one(engine, text("SELECT version_num FROM alembic_version")) == "9001"  # unknown up to 0010


async def test_a_later_version_runs_this_one(database: Database, engine: AsyncEngine, tmp_path: Path) -> None:
    await migrate(database, with_one_more(tmp_path, COLUMN))
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE first_looks"))  # no program of this version uses it
    found = await database.run(schema_revision.read)
    assert not found.is_awaited
    assert not found.is_too_new
    await migrate(database)  # a stack of this version is started again
    assert await database.run(schema_revision.read) == found


async def test_migrate_says_that_it_is_too_old(database: Database, tmp_path: Path) -> None:
    await migrate(database, with_one_more(tmp_path, BREAKING))
    with pytest.raises(SchemaMismatch, match=r"9001.*later version"):
        await migrate(database)


async def test_a_program_waits_for_its_schema_and_says_for_what(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = asyncio.create_task(until_usable(database, pause_s=0.02))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await migrate(database)
    await waiting
    said = [one.message for one in caplog.records if one.name == "workers.serving.schema"]
    assert len(said) == 1
    assert schema_revision.PROGRAM in said[0]
    assert "gpu-orchestrator migrate" in said[0]


async def test_a_program_that_is_too_old_says_so_and_ends(database: Database, tmp_path: Path) -> None:
    await migrate(database, with_one_more(tmp_path, BREAKING))
    with pytest.raises(SystemExit, match=r"9001.*later version"):
        await until_usable(database)


async def test_a_program_writes_no_keys(database: Database, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It may have been started with an environment of before: it says so."""
    await migrate(database)
    await database.run(lambda c: bootstrap_key.ensure(c, "the-current-one"))
    before = await database.run(api_keys.list_all)
    for key, warnings in [("the-current-one", 0), ("another-one", 1)]:
        caplog.clear()
        opened = await open_database(Settings(database_url=url, api_key=SecretStr(key)))
        await opened.close()
        assert len([one for one in caplog.records if "ORCHESTRATOR_API_KEY" in one.message]) == warnings
        assert "another-one" not in caplog.text
    assert await database.run(api_keys.list_all) == before

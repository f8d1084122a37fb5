"""Alembic's run of the missing migrations (`infra.db.schema.migrate`).

Each migration is a transaction of its own. One that does not get a lock within `LOCK_TIMEOUT_MS` is rolled back and
repeated, so that the statements queued behind it wait no longer than that. How to write one: `infra.db.schema.online`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, NullPool, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from infra.db import locks
from infra.db.connection import keep_first_line
from infra.db.schema import revision
from infra.db.schema.revision import VERSIONS, Schema, SchemaMismatch
from infra.db.session import OPTIONS, Database

log = logging.getLogger(__name__)

MIGRATIONS = VERSIONS.parent
TABLE, TABLE_BEFORE = "schema_version", "alembic_version"
LAST_BEFORE = "0010"
"""The revision at which TABLE_BEFORE stays: the programs that read that table know no later one."""

LOCK_TIMEOUT_MS = 500
POLL_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
REPEATED = frozenset({"55P03", "40P01"})  # no lock within LOCK_TIMEOUT_MS, deadlock

_SESSION = text(
    "SELECT set_config(name, value, false) FROM (VALUES ('statement_timeout', '0'),"
    " ('idle_in_transaction_session_timeout', '0'), ('lock_timeout', CAST(:lock_timeout AS text))) AS s(name, value)"
)
# Of the session, so that it outlives the transactions. It is polled: whoever waits in pg_advisory_lock holds a
# snapshot, and CREATE INDEX CONCURRENTLY waits for the end of every older snapshot.
_TRY_LOCK = text(locks.TRY_MIGRATION)
_LOCK_BEFORE = text(locks.MIGRATION_BEFORE)
_HAS_TABLE = text("SELECT to_regclass(:name) IS NOT NULL")


def alembic_config(
    connection: Connection, *, table: str = TABLE, versions: Sequence[Path] = (VERSIONS,), quiet: bool = True
) -> Config:
    """Alembic's configuration for one connection; `table` holds the revision."""
    config = Config()
    config.set_main_option("script_location", _escaped(str(MIGRATIONS)))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", _escaped("\n".join(str(path) for path in versions)))
    config.attributes.update(connection=connection, table=table, on_applied=None if quiet else _say)
    return config


async def upgrade(database: Database, versions: Sequence[Path]) -> None:
    """Run the missing migrations. It continues until it has got each lock that it needs.

    A schema of a later version stays as it is. Raises SchemaMismatch, DBAPIError, ConnectionError.
    """
    engine = create_engine(database.url)
    try:
        async with engine.connect() as connection:
            await _lock(connection)
            if not _is_of_later_version(await database.run(revision.read), versions):
                await _until_locks_are_had(connection, versions)
    finally:
        await engine.dispose()


def _is_of_later_version(found: Schema, versions: Sequence[Path]) -> bool:
    """Whether a later version has migrated, as before a step back. Raises SchemaMismatch if it is too new."""
    if found.revision is None or found.revision <= revision.last(versions):
        return False
    if found.is_too_new:
        raise SchemaMismatch(found.text_of_too_new)
    log.info("the schema is that of revision %s, of a later version, and stays so", found.revision)
    return True


def create_engine(url: str) -> AsyncEngine:
    """SQLAlchemy's way to the same database, which only Alembic needs."""
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=OPTIONS)
    event.listen(engine.sync_engine, "handle_error", _keep_first_line)
    return engine


def _keep_first_line(context: ExceptionContext) -> None:
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None:
            keep_first_line(error)


async def _lock(connection: AsyncConnection) -> None:
    said = False
    while not (await connection.execute(_TRY_LOCK)).scalar_one():
        await connection.commit()
        if not said:
            log.info("another migration of this database is under way: waiting for its end")
        said = True
        await asyncio.sleep(POLL_S)
    await connection.commit()


async def _until_locks_are_had(connection: AsyncConnection, versions: Sequence[Path]) -> None:
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            await connection.execute(_SESSION, {"lock_timeout": str(LOCK_TIMEOUT_MS)})
            await connection.commit()
            await connection.run_sync(_upgrade, versions)
        except PendingRollbackError as error:
            raise ConnectionError("the connection was lost during a migration") from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in REPEATED:
                raise
            await connection.rollback()
            log.warning("a lock is held by others, trying again in %g s: %s", pause_s, error.statement)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _upgrade(connection: Connection, versions: Sequence[Path]) -> None:
    if not connection.execute(_HAS_TABLE, {"name": TABLE}).scalar_one():
        _take_over(connection)
    connection.commit()
    command.upgrade(alembic_config(connection, versions=versions, quiet=False), "head")
    connection.commit()


def _take_over(connection: Connection) -> None:
    """Migrate as the earlier programs did, and go on from there in a table of our own; all of it or nothing."""
    connection.execute(_LOCK_BEFORE)
    command.upgrade(alembic_config(connection, table=TABLE_BEFORE, quiet=False), LAST_BEFORE)
    command.stamp(alembic_config(connection), LAST_BEFORE)


def _say(revision: str) -> None:
    log.info("applied revision %s", revision)


def _escaped(value: str) -> str:
    return value.replace("%", "%%")

"""Bring a database to the current schema while the programs that use it run (ADR 0019).

Each migration is a transaction of its own. One that does not get a lock within `LOCK_TIMEOUT_MS` is rolled back and
repeated, so that the statements queued behind it wait no longer than that. How to write one: `infra.db.schema.online`.
"""

from __future__ import annotations

import asyncio
import logging
import re
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
from infra.db.schema.revision import VERSIONS, Schema
from infra.db.session import OPTIONS, Database

log = logging.getLogger(__name__)

MIGRATIONS = VERSIONS.parent
WRITTEN = MIGRATIONS / "schema.sql"
"""The schema that the migrations build, as SQL."""
_TABLE = re.compile(r"^CREATE TABLE public\.(\w+) \((.*?)^\)", re.DOTALL | re.MULTILINE)
_COLUMN = re.compile(r"^    ([a-z_]+) ", re.MULTILINE)
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
_LACKING = text(
    """
    SELECT w.table_name || '.' || w.column_name
      FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[])) AS w(table_name, column_name)
     WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(w.table_name)
                          AND a.attname = w.column_name AND NOT a.attisdropped)
     ORDER BY 1
    """
)


class SchemaMismatch(Exception):
    """The tables are not those of the revision that the database has noted, or too new for this program."""


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


async def migrate(database: Database, versions: Sequence[Path] = (VERSIONS,)) -> None:
    """Run every missing migration. Safe to run twice at once, and again after an interruption.

    It continues until it has got each lock that it needs. A schema of a later version stays as it is. Raises
    SchemaMismatch, DBAPIError, ConnectionError.
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
    own = max(path.name[:4] for folder in versions for path in folder.glob("[0-9]*.py"))
    if found.revision is None or found.revision <= own:
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
    _check(connection)


def _take_over(connection: Connection) -> None:
    """Migrate as the earlier programs did, and go on from there in a table of our own; all of it or nothing."""
    connection.execute(_LOCK_BEFORE)
    command.upgrade(alembic_config(connection, table=TABLE_BEFORE, quiet=False), LAST_BEFORE)
    command.stamp(alembic_config(connection), LAST_BEFORE)


def columns() -> list[tuple[str, str]]:
    """Each table's columns, as (table, column)."""
    return [
        (table, column)
        for table, body in _TABLE.findall(WRITTEN.read_text("utf-8"))
        for column in _COLUMN.findall(body)
    ]


def _check(connection: Connection) -> None:
    """Check that every column exists. An older backup restored over a later schema leaves the later revision behind."""
    tables, names = zip(*columns(), strict=True)
    values = {"tables": list(tables), "columns": list(names)}
    lacking = list(connection.execute(_LACKING, values).scalars())
    connection.commit()
    if lacking:
        raise SchemaMismatch(
            f"the database has noted a later schema than its tables have ({', '.join(lacking[:5])} missing): a backup"
            " was restored over a later version. Restore it into a new, empty database"
        )


def _say(revision: str) -> None:
    log.info("applied revision %s", revision)


def _escaped(value: str) -> str:
    return value.replace("%", "%%")

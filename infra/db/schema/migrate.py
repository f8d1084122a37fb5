"""Bring a database to the current schema while the programs that use it run (ADR 0019)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from infra.db.connection import Connection
from infra.db.schema import revision
from infra.db.schema.revision import VERSIONS, SchemaMismatch
from infra.db.session import Database

WRITTEN = VERSIONS.parent / "schema.sql"
"""The schema that the migrations build, as SQL."""
_TABLE = re.compile(r"^CREATE TABLE public\.(\w+) \((.*?)^\)", re.DOTALL | re.MULTILINE)
_COLUMN = re.compile(r"^    ([a-z_]+) ", re.MULTILINE)
_LACKING = """
    SELECT w.table_name || '.' || w.column_name
      FROM unnest(CAST(%(tables)s AS text[]), CAST(%(columns)s AS text[])) AS w(table_name, column_name)
     WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(w.table_name)
                          AND a.attname = w.column_name AND NOT a.attisdropped)
     ORDER BY 1
    """


async def migrate(database: Database, versions: Sequence[Path] = (VERSIONS,)) -> None:
    """Run every missing migration. Safe to run twice at once, and again after an interruption.

    A schema of a later version stays as it is. Raises SchemaMismatch, DBAPIError, ConnectionError.
    """
    own = revision.last(versions)
    if (await database.run(revision.read)).revision != own:
        from infra.db.schema.upgrade import upgrade  # Alembic takes as long to load as all the rest

        await upgrade(database, versions)
    if (await database.run(revision.read)).revision == own:
        await database.run(_check)


def columns() -> list[tuple[str, str]]:
    """Each table's columns, as (table, column)."""
    return [
        (table, column)
        for table, body in _TABLE.findall(WRITTEN.read_text("utf-8"))
        for column in _COLUMN.findall(body)
    ]


async def _check(connection: Connection) -> None:
    """Check that every column exists. An older backup restored over a later schema leaves the later revision behind."""
    tables, names = zip(*columns(), strict=True)
    lacking = await connection.all(str, _LACKING, {"tables": list(tables), "columns": list(names)})
    if lacking:
        raise SchemaMismatch(
            f"the database has noted a later schema than its tables have ({', '.join(lacking[:5])} missing): a backup"
            " was restored over a later version. Restore it into a new, empty database"
        )

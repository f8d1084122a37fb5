"""Rows for tables that must be large, cloned from rows that the system itself has written.

Cloning needs to know only the columns that must differ, and still works when a migration adds some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from psycopg import sql

from tests.bench.rig import Connection


async def one_row(connection: Connection, table: str, condition: str, value: object) -> str:
    """One row as JSON text; the template of `clone`. Raises LookupError."""
    statement = sql.SQL("SELECT row_to_json(r)::text FROM (SELECT * FROM {} WHERE {} LIMIT 1) r")
    query = statement.format(sql.Identifier(table), sql.SQL(condition))
    row = await (await connection.execute(query, (value,))).fetchone()
    if row is None:
        raise LookupError(f"no row of {table} where {condition}")
    return str(row[0])


async def clone(
    connection: Connection, table: str, template: str, count: int, *, differ: Mapping[str, str], start: int = 1
) -> None:
    """Insert `count` copies; `differ` gives columns an SQL expression of `i`, which counts from `start`.

    Identity columns get their next values. Triggers fire unless the caller has switched them off.
    """
    known = json.loads(template)
    columns = [name for name in await _columns(connection, table) if name in known or name in differ]
    chosen = [sql.SQL(differ[name]) if name in differ else sql.SQL("r.") + sql.Identifier(name) for name in columns]
    query = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {chosen} FROM json_populate_record(NULL::{table}, %s) r,"
        " generate_series(%s::bigint, %s::bigint) i"
    ).format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        chosen=sql.SQL(", ").join(chosen),
    )
    await connection.execute(query, (template, start, start + count - 1))


async def vacuum(connection: Connection, *tables: str) -> None:
    """Do what autovacuum would have done for a table of this size: statistics and the visibility map."""
    for table in tables:
        await connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


async def _columns(connection: Connection, table: str) -> list[str]:
    """Columns that may be inserted into."""
    found = await connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"
        " AND is_identity = 'NO' AND is_generated = 'NEVER' ORDER BY ordinal_position",
        (table,),
    )
    return [str(row[0]) for row in await found.fetchall()]

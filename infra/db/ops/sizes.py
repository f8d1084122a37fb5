"""The size of the database and of its largest tables."""

from __future__ import annotations

from typing import NamedTuple

from infra.db.connection import Connection

_SIZES = """
    SELECT c.relname::text AS name, pg_total_relation_size(c.oid) AS bytes,
           greatest(c.reltuples, 0)::bigint AS about_rows
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = current_schema() AND c.relkind = 'r' ORDER BY 2 DESC, 1 LIMIT 12
    """
_TOTAL = "SELECT pg_database_size(current_database())"


class Size(NamedTuple):
    """A table with its indexes; the number of rows is the planner's estimate."""

    name: str
    bytes: int
    about_rows: int


async def tables(connection: Connection) -> list[Size]:
    """The largest tables."""
    return await connection.all(Size, _SIZES)


async def total(connection: Connection) -> int:
    """Bytes of the whole database: Postgres asks the file system."""
    return await connection.one(int, _TOTAL)

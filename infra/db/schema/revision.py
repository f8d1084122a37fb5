"""The revision of the database's schema, and whether a program can run on it (ADR 0019).

Revisions are numbers of four digits, so that any two compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.db.connection import Connection

VERSIONS = Path(__file__).parent / "versions"


class SchemaMismatch(Exception):
    """The tables are not those of the revision that the database has noted, or too new for this program."""


def last(versions: Sequence[Path]) -> str:
    """The last revision in folders of migrations."""
    return max(path.name[:4] for folder in versions for path in folder.glob("[0-9]*.py"))


PROGRAM = last((VERSIONS,))
"""The revision that this program was written for."""

_TABLES = (
    "SELECT to_regclass('schema_version') IS NOT NULL AS version, to_regclass('alembic_version') IS NOT NULL AS before,"
    " to_regclass('schema_compatibility') IS NOT NULL AS compatibility"
)
_VERSION = "SELECT version_num FROM schema_version"
_BEFORE = "SELECT version_num FROM alembic_version"
_COMPATIBILITY = "SELECT oldest_program FROM schema_compatibility"


@dataclass(frozen=True)
class _Tables:
    version: bool
    before: bool
    compatibility: bool


@dataclass(frozen=True)
class Schema:
    """The revisions that the database has noted."""

    revision: str | None
    """None if the database is empty."""
    oldest_program: str | None = None
    """The revision of the oldest program that can run on it. None if every program can that runs on `revision`."""

    @property
    def is_awaited(self) -> bool:
        """Whether this program needs a later revision."""
        return self.revision is None or self.revision < PROGRAM

    @property
    def is_too_new(self) -> bool:
        """Whether something that this program needs was removed from the schema."""
        return self.oldest_program is not None and self.oldest_program > PROGRAM

    @property
    def text_of_too_new(self) -> str:
        """The error message of a program that the schema is too new for."""
        return (
            f"the database has the schema of revision {self.revision}, which needs programs of revision"
            f" {self.oldest_program} or later; this one is of revision {PROGRAM}: install the later version"
        )


async def read(connection: Connection) -> Schema:
    """The schema's revision, also of a database that an earlier version of the program migrated."""
    there = await connection.one(_Tables, _TABLES)
    if not there.version:
        return Schema(await _only(connection, _BEFORE) if there.before else None)
    oldest = await _only(connection, _COMPATIBILITY) if there.compatibility else None
    return Schema(await _only(connection, _VERSION), oldest)


async def _only(connection: Connection, statement: str) -> str | None:
    return await connection.one_or_none(str, statement)

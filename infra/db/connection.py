"""A connection as the modules of this folder use it: statements in, rows out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import AsyncRowFactory, class_row, namedtuple_row, scalar_row
from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from workflows.domain.queue_policy import QueuePolicy

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

SCALARS = frozenset({str, int, float, bool, datetime, dict})
_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class WrongCount(Exception):
    """A statement did not return exactly one row."""


class Opened(psycopg.AsyncConnection[Any]):
    """A connection to Postgres that knows when it was opened, and reports each try to open one."""

    opened_at = 0.0
    """By the monotonic clock."""

    @classmethod
    async def connect(  # type: ignore[override]  # the pool hands on what it was given
        cls, conninfo: str = "", *, tried: Callable[[psycopg.Error | None], None], **options: Any
    ) -> Opened:
        """Open one. `tried` gets the error, or None. Raises psycopg.Error."""
        try:
            opened = await super().connect(conninfo, **options)
        except psycopg.Error as error:
            tried(error)
            raise
        opened.opened_at = time.monotonic()
        tried(None)
        return opened


class Connection:
    """Executes statements on a connection. Errors are psycopg's, without values of rows or parameters."""

    def __init__(self, opened: psycopg.AsyncConnection[Any], policy: QueuePolicy) -> None:
        self._opened = opened
        self.policy = policy

    async def execute(self, statement: TextClause | str, parameters: Mapping[str, Any] | None = None, /) -> Result:
        """Execute a statement. Raises psycopg.Error."""
        return Result(*await self._answer(namedtuple_row, statement, parameters))

    async def all(
        self, row: type[T], statement: TextClause | str, parameters: Mapping[str, Any] | None = None, /
    ) -> list[T]:
        """All rows. `row` is a class whose fields are the columns, or the type of the only column.

        Raises psycopg.Error.
        """
        rows, _ = await self._answer(scalar_row if row in SCALARS else class_row(row), statement, parameters)
        return rows

    async def one(self, row: type[T], statement: TextClause | str, parameters: Mapping[str, Any] | None = None, /) -> T:
        """The only row. Raises psycopg.Error, WrongCount."""
        return only(await self.all(row, statement, parameters))

    async def one_or_none(
        self, row: type[T], statement: TextClause | str, parameters: Mapping[str, Any] | None = None, /
    ) -> T | None:
        """The only row, or None if there is none. Raises psycopg.Error, WrongCount."""
        rows = await self.all(row, statement, parameters)
        return only(rows) if rows else None

    async def _answer(
        self, factory: AsyncRowFactory[Any], statement: TextClause | str, parameters: Mapping[str, Any] | None
    ) -> tuple[list[Any], int]:
        query = statement if isinstance(statement, str) else _for_driver(statement.text)
        cursor = self._opened.cursor(row_factory=factory)
        try:
            await cursor.execute(query, parameters or {})
            return await cursor.fetchall() if cursor.description is not None else [], cursor.rowcount
        except psycopg.Error as error:
            keep_first_line(error)
            raise


class Result:
    """How many rows a statement has changed; its rows are untyped: `all`, `one` and `one_or_none` have types."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def all(self) -> list[Any]:
        return self._rows

    def one(self) -> Any:
        return only(self._rows)

    def one_or_none(self) -> Any:
        return self.one() if self._rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        return self.one()[0] if self._rows else None

    def scalars(self) -> list[Any]:
        return [row[0] for row in self._rows]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


def columns(row: type[DataclassInstance]) -> str:
    """The columns of a row, for its SELECT: a later schema may have more."""
    return ", ".join(field.name for field in fields(row))


def only(rows: Sequence[T]) -> T:
    """The one row that there is. Raises WrongCount."""
    if len(rows) != 1:
        raise WrongCount(f"{len(rows)} rows")
    return rows[0]


def keep_first_line(error: BaseException) -> None:
    """Cut off what follows Postgres' own words: its DETAIL shows the refused row with its payload."""
    if error.args:
        error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])


@lru_cache(maxsize=1024)
def _for_driver(statement: str) -> str:
    """A statement with its parameters as the driver marks them."""
    return str(text(statement).compile(dialect=_DIALECT))

"""A connection as the modules of this folder use it: statements in, rows out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import AsyncRowFactory, class_row, scalar_row, tuple_row

from workflows.domain.queue_policy import QueuePolicy

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

SCALARS = frozenset({str, int, float, bool, datetime, dict})


class WrongCount(Exception):
    """A statement did not return exactly one row."""


class Opened(psycopg.AsyncConnection[Any]):
    """A connection to Postgres that knows when it was opened, and reports each try to open one."""

    opened_at = 0.0
    """The time of opening by the monotonic clock."""
    lost = False
    """Whether it must not be used any more, although its server answers."""

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

    async def execute(self, statement: str, parameters: Mapping[str, Any] | None = None, /) -> int:
        """Execute a statement. Returns the number of rows that it changed or found. Raises psycopg.Error."""
        return (await self._executed(tuple_row, statement, parameters)).rowcount

    async def all(self, row: type[T], statement: str, parameters: Mapping[str, Any] | None = None, /) -> list[T]:
        """All rows. `row` is a class whose fields are the columns, or the type of the only column.

        Raises psycopg.Error.
        """
        cursor = await self._executed(scalar_row if row in SCALARS else class_row(row), statement, parameters)
        return await cursor.fetchall()

    async def one(self, row: type[T], statement: str, parameters: Mapping[str, Any] | None = None, /) -> T:
        """The only row. Raises psycopg.Error, WrongCount."""
        return only(await self.all(row, statement, parameters))

    async def one_or_none(
        self, row: type[T], statement: str, parameters: Mapping[str, Any] | None = None, /
    ) -> T | None:
        """The only row, or None if there is none. Raises psycopg.Error, WrongCount."""
        rows = await self.all(row, statement, parameters)
        return only(rows) if rows else None

    async def _executed(
        self, factory: AsyncRowFactory[T], statement: str, parameters: Mapping[str, Any] | None
    ) -> psycopg.AsyncCursor[T]:
        cursor = self._opened.cursor(row_factory=factory)
        try:
            return await cursor.execute(statement, parameters or {})  # with parameters `%%` is always a `%`
        except psycopg.Error as error:
            keep_first_line(error)
            raise


def columns(row: type[DataclassInstance]) -> str:
    """The columns of a row, for its SELECT: a later schema may have more."""
    return ", ".join(field.name for field in fields(row))


def placeholders(row: type[DataclassInstance]) -> str:
    """The parameters of a row, for its INSERT."""
    return ", ".join(f"%({field.name})s" for field in fields(row))


def listed(values: Iterable[object]) -> str:
    """Constants as SQL literals, for `IN`."""
    return ", ".join(f"'{value}'" for value in sorted(map(str, values)))


def only(rows: Sequence[T]) -> T:
    """The one row that there is. Raises WrongCount."""
    if len(rows) != 1:
        raise WrongCount(f"{len(rows)} rows")
    return rows[0]


def keep_first_line(error: BaseException) -> None:
    """Cut off what follows Postgres' own words: its DETAIL shows the refused row with its payload."""
    if error.args:
        error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

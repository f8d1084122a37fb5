"""A connection in a transaction, as the modules of this folder use it.

SQLAlchemy opens and closes it, and `lending` keeps it. Statements go to psycopg's connection directly: all of ours are
SQL text, and the way through SQLAlchemy costs three times what the driver itself costs (0.39 ms of CPU against 0.12 ms
for a SELECT of one row), some thirty times in the life of a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class Row(Protocol):
    """A row: its columns by name, and in order."""

    def __getattr__(self, name: str, /) -> Any: ...
    def __getitem__(self, index: int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Result(Protocol):
    """The result of a statement: a part of SQLAlchemy's `CursorResult`."""

    @property
    def rowcount(self) -> int: ...
    def all(self) -> Sequence[Row]: ...
    def one(self) -> Row: ...
    def one_or_none(self) -> Row | None: ...
    def scalar_one(self) -> Any: ...
    def scalar_one_or_none(self) -> Any: ...
    def scalars(self) -> Iterable[Any]: ...
    def __iter__(self) -> Iterator[Row]: ...


class Connection(Protocol):
    """Executes statements, with parameters by name. SQLAlchemy's own connections fit this protocol too."""

    async def execute(self, statement: TextClause, parameters: Mapping[str, Any] | None = None, /) -> Result:
        """Execute a statement. Raises sqlalchemy.exc.DBAPIError."""
        ...


class DriverConnection:
    """The driver's connection inside one that SQLAlchemy has opened."""

    def __init__(self, opened: AsyncConnection) -> None:
        pooled = opened.sync_connection
        assert pooled is not None  # it is connected
        self._opened = opened
        self._driver: psycopg.AsyncConnection[Any] = pooled.connection.driver_connection  # type: ignore[assignment]
        self.is_lost = False
        """Whether a statement has found the other end gone."""

    @property
    def is_idle(self) -> bool:
        """Whether it is open, in no transaction, and idle."""
        return self._driver.info.transaction_status == TransactionStatus.IDLE

    @property
    def commits_each(self) -> bool:
        """Whether each statement is a transaction of its own."""
        return self._driver.autocommit

    async def commit_each(self, each: bool) -> None:
        """Set whether each statement is a transaction of its own. Call it outside a transaction. Raises DBAPIError."""
        if self._driver.autocommit is not each:
            await self._heeded("", self._driver.set_autocommit(each))

    async def commit(self) -> None:
        """End the transaction. Raises DBAPIError."""
        await self._heeded("COMMIT", self._driver.commit())

    async def roll_back(self) -> None:
        """Undo the transaction if the connection is open; else the server does. Raises DBAPIError."""
        if not self._driver.closed:
            await self._heeded("ROLLBACK", self._driver.rollback())

    async def close(self) -> None:
        """Close it, and tell SQLAlchemy's pool that it may open another."""
        await self._opened.invalidate()
        await self._opened.close()

    async def execute(self, statement: TextClause, parameters: Mapping[str, Any] | None = None, /) -> Result:
        """Execute a statement. Raises DBAPIError, whose text has no values of rows or parameters."""
        query = _for_driver(statement.text)
        return await self._heeded(query, self._answer(query, parameters or {}))

    async def _answer(self, query: str, parameters: Mapping[str, Any]) -> Result:
        cursor = self._driver.cursor(row_factory=namedtuple_row)
        await cursor.execute(query, parameters)
        return _Rows(await cursor.fetchall() if cursor.description is not None else [], cursor.rowcount)

    async def _heeded(self, query: str, call: Awaitable[T]) -> T:
        """Close a connection whose caller has stopped waiting: nobody knows what it is doing."""
        try:
            return await call
        except asyncio.CancelledError:
            await self._opened.invalidate()
            raise
        except psycopg.Error as error:
            keep_first_line(error)
            self.is_lost = self._driver.closed
            raise DBAPIError.instance(
                query, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=self.is_lost
            ) from error


class _Rows:
    """All rows, fetched."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def all(self) -> list[Any]:
        return self._rows

    def one(self) -> Any:
        """Raises NoResultFound or MultipleResultsFound, as SQLAlchemy does."""
        if len(self._rows) != 1:
            raise MultipleResultsFound if self._rows else NoResultFound
        return self._rows[0]

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


def keep_first_line(error: DBAPIError | psycopg.Error) -> None:
    """Cut off what follows Postgres' own words: its DETAIL shows the refused row with its payload."""
    if error.args:
        error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])


@lru_cache(maxsize=1024)
def _for_driver(statement: str) -> str:
    """A statement with its parameters as the driver marks them."""
    return str(text(statement).compile(dialect=_DIALECT))

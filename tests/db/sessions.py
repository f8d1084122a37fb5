"""Connections of the tests' own, with transactions that the tests begin and end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from infra.db.connection import Connection, only
from infra.db.session import OPTIONS, USUAL, conninfo


async def untyped(connection: Connection, statement: str, parameters: Mapping[str, Any] | None = None, /) -> list[Any]:
    """All rows, as named tuples."""
    return await (await connection._executed(namedtuple_row, statement, parameters)).fetchall()


class Session(Connection):
    """A connection in a transaction from its first statement on."""

    async def commit(self) -> None:
        await self._opened.commit()

    async def rollback(self) -> None:
        await self._opened.rollback()

    async def rows(self, statement: str, parameters: Mapping[str, Any] | None = None, /) -> list[Any]:
        """All rows, as named tuples."""
        return await untyped(self, statement, parameters)

    async def scalar(self, statement: str, parameters: Mapping[str, Any] | None = None, /) -> Any:
        """The first column of the only row."""
        return only(await self.rows(statement, parameters))[0]


class Sessions:
    """Opens sessions on one database."""

    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def connect(self, *, autocommit: bool = False) -> AsyncIterator[Session]:
        """A session. What it has not committed is rolled back."""
        opened = await psycopg.AsyncConnection.connect(conninfo(self.url), autocommit=autocommit, **OPTIONS)
        try:
            yield Session(opened, USUAL)
        finally:
            await opened.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """A session that is committed at the end."""
        async with self.connect() as session:
            yield session
            await session.commit()

"""Connections of the tests' own, with transactions that the tests begin and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from sqlalchemy import TextClause

from infra.db.connection import Connection
from infra.db.session import OPTIONS, USUAL, conninfo


class Session(Connection):
    """In a transaction from its first statement on."""

    async def commit(self) -> None:
        await self._opened.commit()

    async def rollback(self) -> None:
        await self._opened.rollback()

    async def scalar(self, statement: TextClause) -> Any:
        """The first column of the only row."""
        return (await self.execute(statement)).scalar_one()


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

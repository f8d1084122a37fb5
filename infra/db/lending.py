"""Lending the engine's connections to transactions and single statements. The most recently used one is lent first.

SQLAlchemy opens and closes them; its own pool costs as much CPU as two short statements (ADR 0014).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from infra.db.connection import DriverConnection

TURN_S = 5.0
LENT_BY_KEPT = 2
"""Connections that may be lent at once, as a multiple of those that are kept."""


class Lender:
    """As many connections at once as the engine may open. Acquiring times out after 5 s."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._keeps = cast("QueuePool", engine.pool).size()
        self._turns = asyncio.Semaphore(LENT_BY_KEPT * self._keeps)
        self._trusted: set[DriverConnection] = set()  # kept or lent, and opened since one was last found lost
        self._kept: dict[bool, list[DriverConnection]] = {False: [], True: []}  # by whether they commit each statement

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[DriverConnection]:
        """A transaction: committed at the end, or rolled back on an error. Raises DBAPIError,
        sqlalchemy.exc.TimeoutError."""
        async with self._lent(commits_each=False) as connection:
            try:
                yield connection
                await connection.commit()
            except BaseException:
                await connection.roll_back()
                raise

    @asynccontextmanager
    async def singles(self) -> AsyncIterator[DriverConnection]:
        """A connection on which each statement is a transaction of its own. Raises the same."""
        async with self._lent(commits_each=True) as connection:
            yield connection

    @asynccontextmanager
    async def _lent(self, *, commits_each: bool) -> AsyncIterator[DriverConnection]:
        await self._turn()
        try:
            connection = await self._take(commits_each)
            try:
                yield connection
            finally:
                await self._take_back(connection)
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise PoolTimeout(f"every connection has been in use for {TURN_S:g} s") from None

    async def _take(self, commits_each: bool) -> DriverConnection:
        """The most recently used connection: it has the statements prepared."""
        if kept := self._kept[commits_each] or self._kept[not commits_each]:
            connection = kept.pop()
        else:
            connection = DriverConnection(await self._engine.connect())
            self._trusted.add(connection)
        try:
            await connection.commit_each(commits_each)
        except BaseException:
            await self._take_back(connection)
            raise
        return connection

    async def _take_back(self, connection: DriverConnection) -> None:
        """Give up all open connections once one is lost: the others are probably lost too."""
        trusted = connection in self._trusted
        if trusted and connection.is_idle and sum(map(len, self._kept.values())) < self._keeps:
            self._kept[connection.commits_each].append(connection)
            return
        self._trusted.discard(connection)
        await connection.close()
        if trusted and connection.is_lost:
            await self.close()

    async def close(self) -> None:
        """Close every kept connection now, and every lent one when it is returned."""
        given_up = [connection for kept in self._kept.values() for connection in kept]
        self._trusted.clear()
        for kept in self._kept.values():
            kept.clear()
        for connection in given_up:
            await connection.close()

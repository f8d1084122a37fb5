"""A database that is one connection, for what asks for a whole one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.engine import Database


class OneConnection(Database):
    """Runs everything on one connection, which is rolled back, and counts the reads."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.reads = 0

    async def run(self, work: Callable[[AsyncConnection], Awaitable[Any]], **_: Any) -> Any:
        self.reads += 1
        return await work(self._connection)

    async def single(self, work: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
        return await self.run(work)

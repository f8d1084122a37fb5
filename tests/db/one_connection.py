"""A database that is one connection, for what asks for a whole one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from infra.db.session import Database
from tests.db.sessions import Session


class OneConnection(Database):
    """Runs everything on one connection, which is rolled back, and counts the reads."""

    def __init__(self, connection: Session) -> None:
        self._connection = connection
        self.policy = connection.policy
        self.reads = 0

    async def run(self, work: Callable[[Session], Awaitable[Any]], **_: Any) -> Any:
        self.reads += 1
        return await work(self._connection)

    async def single(self, work: Callable[[Session], Awaitable[Any]]) -> Any:
        return await self.run(work)

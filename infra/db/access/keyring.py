"""Callers by key: cached briefly, and looked up in the database in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cachetools import TTLCache

from infra.db.access import callers
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.session import Database

REMEMBERED_S = 2.0
"""Seconds until a key's row is read again, and so until a revocation counts everywhere."""
REFUSED_S = 1.0
"""Seconds for which a refused key is refused without a read, and so until a key made meanwhile works."""
PAUSE_S = 0.02
"""Seconds between two reads. Keys that arrive in between are read together: any number of wrong keys costs 50 reads
a second."""
MOST = 10_000

Find = Callable[[Connection, list[str]], Awaitable[dict[str, Caller]]]


class Keyring:
    """Recently used keys, both valid and refused ones."""

    def __init__(
        self,
        database: Database,
        find: Find,
        *,
        refused_s: float = REFUSED_S,
        pause_s: float = PAUSE_S,
    ) -> None:
        """`find` looks up secrets by their hashes."""
        self._database = database
        self._find = find
        self._pause_s = pause_s
        self._known: TTLCache[str, Caller] = TTLCache(MOST, REMEMBERED_S)
        self._refused: TTLCache[str, bool] = TTLCache(MOST, refused_s)
        self._asked: dict[str, asyncio.Future[Caller | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def caller(self, secret: str) -> Caller | None:
        """The caller of a live key, or None. Raises what the database raises."""
        hashed = callers.hash_key(secret)
        known = self._known.get(hashed)
        if known is not None or hashed in self._refused:
            return known
        return await asyncio.shield(self._ask(hashed))

    def forget(self, secret: str) -> None:
        """Read this one again at its next use."""
        self._known.pop(callers.hash_key(secret), None)

    def _ask(self, hashed: str) -> asyncio.Future[Caller | None]:
        if hashed not in self._asked:
            self._asked[hashed] = asyncio.get_running_loop().create_future()
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read())
        return self._asked[hashed]

    async def _read(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                await self._answer(asked)
            except Exception as error:  # noqa: BLE001  re-raised to every caller that waits
                self._fail([*asked.values(), *self._asked.values()], error)
            await asyncio.sleep(self._pause_s)

    async def _answer(self, asked: dict[str, asyncio.Future[Caller | None]]) -> None:
        found = await self._database.single(lambda c: self._find(c, list(asked)))
        for hashed, future in asked.items():
            caller = found.get(hashed)
            if caller is None:
                self._refused[hashed] = True
            else:
                self._known[hashed] = caller
            future.set_result(caller)

    def _fail(self, asked: list[asyncio.Future[Caller | None]], error: Exception) -> None:
        self._asked = {}
        for future in asked:
            if not future.done():
                future.set_exception(error)
                future.exception()  # mark it as retrieved: the caller may have disconnected

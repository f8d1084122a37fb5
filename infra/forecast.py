"""The capacity per task type, read from the database at most twice a second by each process."""

from __future__ import annotations

import time

from infra.db import capacity
from infra.db.capacity import Capacity
from infra.db.engine import Database

FRESH_S = 0.5


class Forecast:
    """Shares one answer per type for half a second, so that its cost does not grow with the calls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[int, tuple[float, Capacity]] = {}

    async def of(self, task_type: int) -> Capacity:
        """The capacity for a type, at most half a second old."""
        now = time.monotonic()
        until, known = self._known.get(task_type, (0.0, None))
        if known is not None and now < until:
            return known
        found = await self._database.run(lambda c: capacity.read(c, task_type))
        self._known = {key: entry for key, entry in self._known.items() if entry[0] > now}
        self._known[task_type] = (now + FRESH_S, found)
        return found

    def forget(self) -> None:
        """The fleet has changed by our own hand."""
        self._known.clear()

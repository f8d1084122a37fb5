"""The capacity per task type and class, read from the database at most twice a second by each process."""

from __future__ import annotations

import time

from infra.db import capacity
from infra.db.capacity import Capacity
from infra.db.engine import Database

FRESH_S = 0.5


class Forecast:
    """Shares one answer per type and class for half a second, so that its cost does not grow with the calls."""

    def __init__(self, database: Database, *, strict_vip: bool) -> None:
        self._database = database
        self._strict_vip = strict_vip
        self._known: dict[tuple[int, bool], tuple[float, Capacity]] = {}

    async def of(self, task_type: int, *, vip: bool) -> Capacity:
        """The capacity for tasks of a type and class, at most half a second old."""
        now, wanted = time.monotonic(), (task_type, vip or not self._strict_vip)
        until, known = self._known.get(wanted, (0.0, None))
        if known is not None and now < until:
            return known
        found = await self._database.run(lambda c: capacity.read(c, task_type, vip_nodes=wanted[1]))
        self._known = {key: entry for key, entry in self._known.items() if entry[0] > now}
        self._known[wanted] = (now + FRESH_S, found)
        return found

    def forget(self) -> None:
        """The fleet has changed by our own hand."""
        self._known.clear()

"""Values that may reach Postgres a moment later, in batches."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from infra.db.connection import Connection
from infra.db.session import Database

Record = Callable[[Connection, dict[str, float]], Awaitable[None]]


class WriteBehind:
    """Moments by name, by the monotonic clock. `record` gets the age of each in seconds.

    Only ages travel, so no other clock counts. A batch is kept while Postgres is away; losing it with the process must
    do no harm.
    """

    def __init__(self, database: Database, record: Record) -> None:
        self._database = database
        self._record = record
        self._moments: dict[str, float] = {}

    def note(self, name: str) -> None:
        """Note the moment now."""
        self._moments[name] = time.monotonic()

    def ago_s(self, name: str) -> float | None:
        """Seconds since the moment, or None if nothing is pending."""
        moment = self._moments.get(name)
        return None if moment is None else time.monotonic() - moment

    async def write(self) -> None:
        """Write the batch. Raises what the database raises."""
        if self._moments:
            batch, self._moments = self._moments, {}
            try:
                await self._database.run(lambda c: self._record(c, _ages(batch)))
            except BaseException:  # also if the program ends
                self._moments = batch | self._moments
                raise


def _ages(batch: dict[str, float]) -> dict[str, float]:
    return {name: time.monotonic() - moment for name, moment in batch.items()}

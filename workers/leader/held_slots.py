"""Recording which slots are no longer held: the node has not said in time that the process is gone.

They are free by the clock alone (`infra.db.holding`), and `unused_slots` assigns them.
"""

from __future__ import annotations

from infra.db.session import Database
from infra.db.transactions import release_attempt

AT_ONCE = 5_000
"""Attempts in a turn. There are that many only after programs of an earlier version have run."""


async def record_free_slots(database: Database) -> None:
    """Record the release of attempts that were closed `HELD_S` ago."""
    await database.run(lambda c: release_attempt.record(c, AT_ONCE))

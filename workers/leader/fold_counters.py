"""Folding counters: reads stay quick only if the rows of each count are few."""

from __future__ import annotations

from infra.db.ops import counters
from infra.db.session import Database


async def fold_counters(database: Database) -> None:
    """Add the `+1` and `-1` rows of each count up into one."""
    await database.run(counters.fold)

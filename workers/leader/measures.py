"""Adding up what has ever happened, for Prometheus."""

from __future__ import annotations

from infra.db.ops import measures
from infra.db.session import Database


async def add_up_measures(database: Database) -> None:
    """Add the events since the last turn to the measures."""
    await database.run(measures.add_up)

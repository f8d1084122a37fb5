"""Correcting times after the database's clock was set back."""

from __future__ import annotations

from infra.db.nodes import liveness
from infra.db.session import Database


async def correct_times(database: Database) -> None:
    """Replace the nodes' times that lie in the future: a dead node would stay ACTIVE until then."""
    await database.run(liveness.set_right)

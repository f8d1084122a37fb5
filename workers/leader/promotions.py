"""Aging: NORMAL tasks that have waited for long are promoted, so that VIP work does not starve them."""

from __future__ import annotations

from infra.db import queue
from infra.db.engine import Database
from infra.settings import Settings

PROMOTED_AT_ONCE = 200  # tasks per turn


async def promote_waiting(database: Database, settings: Settings) -> None:
    """Move tasks that have waited for `AGING` to the VIP class."""
    await database.run(lambda c: queue.promote(c, settings.aging, limit=PROMOTED_AT_ONCE))

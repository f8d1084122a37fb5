"""Aging: NORMAL tasks that have waited for long are promoted, so that VIP work does not starve them."""

from __future__ import annotations

from infra.db.queue import aging
from infra.db.session import Database
from infra.settings import Settings

PROMOTED_AT_ONCE = 200  # tasks per turn


async def promote_waiting(database: Database, settings: Settings) -> None:
    """Move tasks that have waited for `AGING` to the VIP class."""
    await database.run(lambda c: aging.promote(c, settings.aging, limit=PROMOTED_AT_ONCE))

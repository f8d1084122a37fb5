"""Resolving alerts whose state is over."""

from __future__ import annotations

from functools import partial

from infra.db.ops import alert_ends
from infra.db.session import Database
from infra.settings import Settings


async def resolve_alerts(database: Database, settings: Settings) -> None:
    """Note of each alert that it is over, where the database says so."""
    await database.run(partial(alert_ends.end, instance_timeout_s=settings.instance_timeout))

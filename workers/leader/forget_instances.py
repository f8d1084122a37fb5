"""Forgetting instances that ended without leaving."""

from __future__ import annotations

from infra.db.ops import instances
from infra.db.session import Database
from infra.settings import Settings

FORGOTTEN_AFTER = 8
"""Instance timeouts after which a silent instance is no longer shown, nor counted against the cluster's health."""


async def forget_instances(database: Database, settings: Settings) -> None:
    """Delete the rows of instances that have been silent for long."""
    await database.run(lambda c: instances.purge(c, settings.instance_timeout * FORGOTTEN_AFTER))

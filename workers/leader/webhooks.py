"""Notifying the workflows of webhooks that have something to send, and forgetting deleted webhooks."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from infra.db.one_by_one import one_by_one
from infra.db.session import Database
from infra.db.webhooks import due
from infra.temporal.access import TemporalAway
from infra.temporal.gateway import TemporalGateway

AT_ONCE = 100
"""Workflows notified in one turn. Each sends all that is due, including what comes during its turn."""

log = logging.getLogger(__name__)


async def attend_webhooks(database: Database, temporal: TemporalGateway) -> None:
    """Notify them, and start those that do not run: what was lost with a worker, or ended by a person."""
    found = await database.single(lambda c: due.unattended(c, AT_ONCE))
    await asyncio.gather(*(_attend(database, temporal, webhook_id) for webhook_id in found))
    await one_by_one(partial(_forget, database, temporal), await database.single(due.deleted), _not_forgotten)


async def _attend(database: Database, temporal: TemporalGateway, webhook_id: str) -> None:
    try:
        await temporal.attend_webhook(webhook_id)
    except Exception as error:  # noqa: BLE001  the next turn tries again
        log.warning("the workflow of %s could not be notified: %s", webhook_id, error)
        await database.run(lambda c: due.unattend(c, webhook_id))


async def _forget(database: Database, temporal: TemporalGateway, webhook_id: str) -> None:
    """Delete some of the deliveries; once none is left, let the workflow end, and delete the row."""
    if await database.run(lambda c: due.purge(c, webhook_id)):
        return
    try:
        await temporal.end_webhook(webhook_id)
    except TemporalAway:
        return
    await database.run(lambda c: due.forget(c, webhook_id))


def _not_forgotten(webhook_id: str, error: Exception) -> None:
    log.error("%s could not be forgotten", webhook_id, exc_info=error)

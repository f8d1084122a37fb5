"""Send alerts to the destinations of NOTIFY: in the background, each destination by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from infra.alert_messages import apprise
from infra.alert_messages.threads import aside
from infra.db.connection import Connection
from infra.db.ops import alert_ends, alert_messages, alerts
from infra.db.ops.alert_messages import DueMessage
from infra.db.session import Database, is_unavailable
from infra.environment.destinations import Destination

log = logging.getLogger(__name__)


class AlertMessages:
    """Starts sending, in each turn, what is due for each destination. A receiver that hangs delays no other."""

    def __init__(self, database: Database, destinations: Sequence[Destination]) -> None:
        self._database = database
        self._destinations = destinations
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def send(self) -> None:
        """Begin to send what is due. A destination whose last message is under way waits, however long that takes."""
        for one in self._destinations:
            last = self._under_way.get(one.digest)
            if last is None or last.done():
                self._under_way[one.digest] = asyncio.create_task(self._send_due(one))

    def stop(self) -> None:
        """Stop waiting for what is under way. The next leader repeats what is not noted as sent."""
        for one in self._under_way.values():
            one.cancel()

    async def _send_due(self, one: Destination) -> None:
        try:
            due = await self._database.run(lambda c: alert_messages.take(c, one.digest, one.level))
            if due is None:
                return
            if await self._send(one, due):
                await self._database.run(partial(self._note_sent, one=one, due=due))
            elif await self._database.run(partial(_note_failed, one=one, due=due)):
                log.error("%s: a message about %s alerts is given up", one, len(due.alerts))
            else:
                log.warning("%s has not accepted a message about %s alerts", one, len(due.alerts))
        except Exception as error:
            if not is_unavailable(error):
                log.exception("%s could not be sent alerts", one)

    async def _send(self, one: Destination, due: DueMessage) -> bool:
        try:
            return await aside(lambda: apprise.send(one.url, due.alerts))
        except Exception as error:  # noqa: BLE001  its text may hold the URL
            log.warning("%s: %s", one, type(error).__name__)
            return False

    async def _note_sent(self, connection: Connection, one: Destination, due: DueMessage) -> None:
        await alert_messages.sent(connection, one.digest, due)
        others = [alerts.undelivered(str(other), other.digest).cause for other in self._destinations if other != one]
        await alert_ends.end_others(connection, alerts.UNDELIVERED, others)


async def _note_failed(connection: Connection, one: Destination, due: DueMessage) -> bool:
    given_up = await alert_messages.failed(connection, one.digest, due)
    if given_up:
        await alerts.raise_alert(connection, alerts.undelivered(str(one), one.digest))
    return given_up

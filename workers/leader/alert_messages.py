"""Sending alerts to the destinations of NOTIFY: beside the leader's other jobs, each destination by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from infra.db.ops import notices
from infra.db.session import Database, is_unavailable
from infra.environment.destinations import Destination
from infra.notify import apprise, message

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Messages that are sent at once."""
LIMIT_S = 30.0
"""How long sending may take: Apprise's own limits are 4 s for each connection and each read."""


class AlertMessages:
    """Begins, in each turn, what is due for each destination. A receiver that hangs holds up nothing but itself."""

    def __init__(self, database: Database, destinations: Sequence[Destination]) -> None:
        self._database = database
        self._destinations = destinations
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(
            AT_ONCE, thread_name_prefix="notify"
        )  # apart from those that others wait for

    async def send(self) -> None:
        """Begin to send what is due."""
        for one in self._destinations:
            last = self._under_way.get(one.digest)
            if last is None or last.done():
                self._under_way[one.digest] = asyncio.create_task(self._tell(one))

    def stop(self) -> None:
        """Stop waiting for what is under way. The next leader repeats what is not noted as sent."""
        for one in self._under_way.values():
            one.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _tell(self, one: Destination) -> None:
        try:
            due = await self._database.run(lambda c: notices.take(c, one.digest, one.level))
            if due is None:
                return
            if await self._send(one, message.about(due.notices)):
                await self._database.run(lambda c: notices.sent(c, one.digest, due))
            else:
                log.warning("%s has not taken a message about %s alerts", one, len(due.notices))
                await self._database.run(lambda c: notices.failed(c, one.digest))
        except Exception as error:
            if not is_unavailable(error):
                log.exception("%s could not be told of alerts", one)

    async def _send(self, one: Destination, text: message.Message) -> bool:
        sending = asyncio.get_running_loop().run_in_executor(self._threads, apprise.send, one.url, text)
        try:
            return await asyncio.wait_for(sending, LIMIT_S)
        except Exception as error:  # noqa: BLE001  its text may hold the URL
            log.warning("%s: %s", one, type(error).__name__)
            return False

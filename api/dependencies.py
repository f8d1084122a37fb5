"""Dependencies of the routes: `create_app` assembles them, the request carries them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from infra.cache import Cache
from infra.db.access import callers, sessions
from infra.db.access.keyring import Keyring
from infra.db.session import Database
from infra.db.slots.forecast import Forecast
from infra.db.tasks import outbox
from infra.db.write_behind import WriteBehind
from infra.events.allowance import Allowance
from infra.events.gauges import Gauges
from infra.events.hub import Hub
from infra.nodes.address_policy import AllowList
from infra.nodes.beats import Beats
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from infra.temporal.task_workflows import Starter
from infra.webhooks.sender import Sender
from workflows.notifications import Notifications

log = logging.getLogger(__name__)

MOST_STREAMS = 3000
"""Streams of one process at once: the rest of its connections are for calls."""
MOST_WAITS = 500
"""Calls of one process that wait for a task's end (`Prefer: wait`)."""


class Self(Protocol):
    """This API process as an instance of the cluster."""

    id: str


@dataclass
class Context:
    """Database, cache, Temporal and this instance."""

    database: Database
    cache: Cache
    temporal: TemporalGateway
    settings: Settings
    instance: Self
    forecast: Forecast
    allowed: AllowList
    receivers: Sender

    def __post_init__(self) -> None:
        self.beats = Beats(self.database, self.cache)
        self.started = WriteBehind(self.database, outbox.clear)
        self.starter = Starter(self.temporal, self.started.note)
        self.hub = Hub(self.database)
        self.gauges = Gauges(self.database, self.forecast, self.hub)
        self.sessions = Keyring(self.database, sessions.find_all)
        self.links = Keyring(self.database, sessions.find_links)
        self.keys = Keyring(self.database, callers.find_all)
        self.streams = Allowance(MOST_STREAMS)
        self.waits = Allowance(MOST_WAITS)

    async def deliver(self, notifications: Notifications) -> None:
        """Send signals after the commit without keeping the caller waiting. The first is under way when this
        returns."""
        if notifications.nodes:
            self.forecast.forget()
        await self.temporal.deliver(notifications)

    async def write_behind(self) -> None:
        """Write the pending batches to Postgres. A batch that cannot be written is kept for the next time."""
        for batch in (self.beats.pending, self.started):
            try:
                await batch.write()
            except Exception as error:  # noqa: BLE001
                log.warning("a batch is not written yet: %s", error)

    async def write_behind_forever(self, every_s: float) -> None:
        """Write the batches every `every_s` seconds, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.write_behind()


async def _of_request(request: Request) -> Context:  # async: FastAPI would run it in a thread
    context: Context = request.app.state.context
    return context


ContextOf = Annotated[Context, Depends(_of_request)]

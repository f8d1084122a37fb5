"""What the routes work with: assembled by `create_app`, found in the request."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from infra.cache import Cache
from infra.db import first_looks
from infra.db.engine import Database
from infra.db.first_looks import LATEST_LOOK_S, PACED_LOOKS_S
from infra.db.notifications import Notifications
from infra.forecast import Forecast
from infra.nodes.address_policy import AllowList
from infra.nodes.beats import Beats
from infra.pace import Lane, Pace
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from infra.write_behind import WriteBehind

log = logging.getLogger(__name__)

STARTS_WAIT_S = 0.1
"""Seconds that a creation waits for other starts to end. On a busy machine that is long enough for most to run one
after the other."""


class Self(Protocol):
    """This API process as an instance of the cluster."""

    id: str
    leads: bool


@dataclass
class Context:
    """Database, cache, engine and this instance."""

    database: Database
    cache: Cache
    engine: TemporalGateway
    settings: Settings
    instance: Self
    forecast: Forecast
    allowed: AllowList

    def __post_init__(self) -> None:
        self.beats = Beats(self.database, self.cache)
        self.due_looks = WriteBehind(self.database, first_looks.record)
        self.first_looks = Pace(self.settings.first_looks, PACED_LOOKS_S, LATEST_LOOK_S)  # ADR 0018
        self.patient_starts = Lane(STARTS_WAIT_S)  # of workflows that will wait anyway (ADR 0018)

    async def deliver(self, notifications: Notifications) -> None:
        """Send signals after the commit without keeping the caller waiting. The first is under way when this
        returns."""
        if notifications.nodes:
            self.forecast.forget()
        if notifications:
            await self.engine.deliver(notifications)

    async def write_behind(self) -> None:
        """Write the pending batches to Postgres. A batch that cannot be written is kept for the next time."""
        for batch in (self.beats.pending, self.due_looks):
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

"""What the routes work with: assembled by `create_app`, found in the request."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from infra.cache import Cache
from infra.db import first_looks, gpus
from infra.db.engine import Database
from infra.db.first_looks import LATEST_LOOK_S, PACED_LOOKS_S
from infra.db.notifications import Notifications
from infra.forecast import Forecast
from infra.nodes.address_policy import AllowList
from infra.pace import Lane, Pace
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from infra.write_behind import WriteThrough

log = logging.getLogger(__name__)

CLOCKS_DIFFER_MS = 5000
"""Milliseconds by which the clocks of two API processes may differ."""
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
        self.beats = WriteThrough(self.database, gpus.record_beats)
        self.due_looks = WriteThrough(self.database, first_looks.record)
        self.first_looks = Pace(self.settings.first_looks, PACED_LOOKS_S, LATEST_LOOK_S)  # ADR 0018
        self.patient_starts = Lane(STARTS_WAIT_S)  # of workflows that will wait anyway (ADR 0018)

    async def deliver(self, notifications: Notifications) -> None:
        """Send signals after the commit without keeping the caller waiting. The first is under way when this
        returns."""
        if notifications.nodes:
            self.forecast.forget()
        if notifications:
            await self.engine.deliver(notifications)

    async def beat(self, gpu_id: str) -> None:
        """Record a beat in Redis at once; the next batch writes it to Postgres."""
        self.beats.note(gpu_id)
        await self.cache.beat(gpu_id, now_ms())

    async def last_beats(self, gpu_ids: list[str]) -> dict[str, int]:
        """The newest beats that Redis or this process knows, in ms since the epoch, without any in the future."""
        latest = now_ms() + CLOCKS_DIFFER_MS
        known = {gpu_id: at for gpu_id, at in (await self.cache.beats(gpu_ids)).items() if at <= latest}
        for gpu_id in gpu_ids:
            if (ago_s := self.beats.ago_s(gpu_id)) is not None:
                known[gpu_id] = max(known.get(gpu_id, 0), now_ms() - int(1000 * ago_s))
        return known

    async def write_through(self) -> None:
        """Write the pending batches to Postgres. A batch that cannot be written is kept for the next time."""
        for batch in (self.beats, self.due_looks):
            try:
                await batch.write()
            except Exception as error:  # noqa: BLE001
                log.warning("not written through: %s", error)

    async def write_through_forever(self, every_s: float) -> None:
        """Write the batches every `every_s` seconds, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.write_through()


def now_ms() -> int:
    """This process's wall clock, in ms since the epoch."""
    return int(time.time() * 1000)


async def _of_request(request: Request) -> Context:  # async: FastAPI runs what is not in a thread
    context: Context = request.app.state.context
    return context


ContextOf = Annotated[Context, Depends(_of_request)]

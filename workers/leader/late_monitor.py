"""Running a monitor that is late: the next time of its schedule lies far ahead after Temporal's clock was set back."""

from __future__ import annotations

import logging
import time

from infra.db.ops import health
from infra.db.session import Database
from infra.settings import Settings
from infra.temporal import schedules
from infra.temporal.access import TemporalAway
from infra.temporal.gateway import TemporalGateway

LATE_INTERVALS, LATE_S = 3, 60.0
"""The monitor is late after this many of its intervals and at least `LATE_S` seconds."""

log = logging.getLogger(__name__)


class LateMonitor:
    """Checks after every `_late_s` seconds: a monitor that has just started is not late."""

    def __init__(self, database: Database, temporal: TemporalGateway, settings: Settings) -> None:
        self._database = database
        self._temporal = temporal
        self._late_s = max(LATE_INTERVALS * settings.monitor_interval, LATE_S)
        self._next = time.monotonic() + self._late_s

    async def find(self) -> None:
        """Trigger the monitor if it is late."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._late_s
        age_s = await self._database.single(health.monitor_age_s)
        if age_s is not None and age_s > self._late_s:
            try:
                await schedules.trigger_monitor(self._temporal)
            except TemporalAway as error:
                log.info("the monitor is late, and can't be run: %s", error)

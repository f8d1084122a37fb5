"""Finding silent nodes."""

from __future__ import annotations

import time

from infra.db.nodes import liveness
from infra.db.ops import alert_ends, alerts
from infra.db.session import Database
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from infra.temporal.notifications import NodeEvent, Notifications

REPEATED_AFTER_S = 10.0


class SilentNodes:
    """Signals the workflow of each silent node, at most once per `REPEATED_AFTER_S`; the workflow reads the node's row
    itself."""

    def __init__(self, database: Database, temporal: TemporalGateway, settings: Settings) -> None:
        self._database = database
        self._temporal = temporal
        self._grace_s = settings.heartbeat_timeout
        self._signalled: dict[tuple[str, int], float] = {}  # (gpu id, epoch) -> when

    async def find(self) -> None:
        """Find those that are silent now, and raise an alert while evictions are held."""
        found = await self._database.run(lambda c: liveness.find(c, self._grace_s))
        new = self._not_signalled_lately(found.lapsed)
        await self._temporal.deliver(Notifications(nodes=[NodeEvent(gpu_id, "silent", epoch) for gpu_id, epoch in new]))
        if found.held:
            alert = alerts.fleet_silent(found.held, found.fleet)
            await self._database.run(lambda c: alerts.raise_alert(c, alert))
        else:  # each time: another instance may have raised it
            await self._database.run(lambda c: alert_ends.end_others(c, alerts.FLEET_SILENT))

    def _not_signalled_lately(self, silent: list[tuple[str, int]]) -> list[tuple[str, int]]:
        now = time.monotonic()
        self._signalled = {node: at for node, at in self._signalled.items() if at > now - REPEATED_AFTER_S}
        new = [node for node in silent if node not in self._signalled]
        self._signalled |= dict.fromkeys(new, now)
        return new

"""Finding silent nodes."""

from __future__ import annotations

import math

from cachetools import TTLCache

from infra.db.nodes import liveness
from infra.db.ops import alert_ends, alerts
from infra.db.session import Database
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workflows.notifications import NodeEvent, Notifications

REPEATED_AFTER_S = 10.0


class SilentNodes:
    """Signals the workflow of each silent node, at most once per `REPEATED_AFTER_S`; the workflow reads the node's row
    itself."""

    def __init__(self, database: Database, temporal: TemporalGateway, settings: Settings) -> None:
        self._database = database
        self._temporal = temporal
        self._grace_s = settings.heartbeat_timeout
        self._signalled: TTLCache[tuple[str, int], bool] = TTLCache(math.inf, REPEATED_AFTER_S)  # gpu id, epoch
        # A fleet does not come back in one moment: a node that was held stays held while the others return.
        self._held: TTLCache[str, bool] = TTLCache(math.inf, (liveness.HELD_GRACES - 1) * self._grace_s)

    async def find(self) -> None:
        """Find those that are silent now, and raise an alert while the fleet guard holds OFFLINE."""
        found = await self._database.single(lambda c: liveness.find(c, self._grace_s))
        self._forget_but({*found.held, *(gpu_id for gpu_id, _ in found.lapsed)})
        for gpu_id in found.held:
            self._held.setdefault(gpu_id, True)  # from its first grace of silence on
        new = [node for node in found.lapsed if node not in self._signalled and node[0] not in self._held]
        self._signalled.update(dict.fromkeys(new, True))
        await self._temporal.deliver(Notifications(nodes=[NodeEvent(gpu_id, "silent", epoch) for gpu_id, epoch in new]))
        if found.held:
            alert = alerts.fleet_silent(found.held, found.fleet)
            await self._database.run(lambda c: alerts.raise_alert(c, alert))
        else:  # each time: another instance may have raised it
            await self._database.run(lambda c: alert_ends.end_others(c, alerts.FLEET_SILENT))

    def _forget_but(self, silent: set[str]) -> None:
        """Forget the hold of each node that is no longer silent: its next silence is another one."""
        for gpu_id in set(self._held) - silent:
            self._held.pop(gpu_id, None)

"""The steps of a monitor run: mend what fell between database and engine, then evaluate health."""

from __future__ import annotations

import time

from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.mending import Mender
from infra.cache import Cache
from infra.db import alerts, monitoring, reconciling
from infra.db.alerts import NewAlert
from infra.db.engine import Database
from infra.settings import Settings
from workflows.domain.alert import AlertLevel
from workflows.domain.health import Health
from workflows.messages import MonitorReport


class MonitorSteps:
    """Implements `workflows.ports.MonitorActivities`."""

    def __init__(self, database: Database, cache: Cache, mender: Mender, settings: Settings) -> None:
        self._database = database
        self._cache = cache
        self._mender = mender
        self._settings = settings

    @activity.defn(name="reconcile")
    async def reconcile(self) -> dict[str, int]:
        """Find and mend what fell between database and engine; counts by kind, without the zeros."""
        return await self._mender.mend()

    @activity.defn(name="check_health")
    async def check_health(self) -> MonitorReport:
        """Evaluate health, raise what it calls for, keep the report."""
        state = await self._database.run(lambda c: monitoring.read(c, self._settings.instance_timeout))
        system = state.levels.system

        async def keep(connection: AsyncConnection) -> int:
            raised = 0
            if system is Health.UNHEALTHY:
                raised += await alerts.raise_alert(connection, _unhealthy())
            for row in await reconciling.unserved(connection):
                raised += await alerts.raise_alert(connection, alerts.unserved(row.task_type, row.task_id))
            await monitoring.keep(connection, state.report())
            return raised

        raised = await self._database.run(keep)
        await self._cache.keep_report(state.report())
        return MonitorReport(system, alerts_raised=raised)


def _unhealthy() -> NewAlert:
    """Once an hour at most."""
    return NewAlert(
        dedupe_key=f"unhealthy:{int(time.time() // 3600)}",
        title="系统健康告警",
        message="系统整体健康状态为 UNHEALTHY",
        level=AlertLevel.WARNING,
        source="system_monitor",
    )

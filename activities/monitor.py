"""The steps of a monitor run: repair drift between the database and Temporal, then evaluate health."""

from __future__ import annotations

from dataclasses import asdict

from temporalio import activity

from activities.beating import beating
from activities.reconciler import Reconciler
from infra.db.connection import Connection
from infra.db.ops import alert_ends, alerts, health
from infra.db.ops.alerts import NewAlert
from infra.db.repair import drift
from infra.db.session import Database
from infra.settings import Settings
from workflows.domain.alert import AlertLevel
from workflows.domain.health import Health
from workflows.messages import MonitorReport


class MonitorSteps:
    """Implements `workflows.ports.MonitorActivities`."""

    def __init__(self, database: Database, reconciler: Reconciler, settings: Settings) -> None:
        self._database = database
        self._reconciler = reconciler
        self._settings = settings

    @activity.defn(name="reconcile")
    async def reconcile(self) -> dict[str, int]:
        """Find and repair drift between the database and Temporal. Returns counts by kind, without the zeros."""
        async with beating():
            return await self._reconciler.reconcile()

    @activity.defn(name="check_health")
    async def check_health(self) -> MonitorReport:
        """Evaluate health, raise what it calls for, and keep the report."""
        async with beating():
            return await self._evaluate()

    async def _evaluate(self) -> MonitorReport:
        state = await self._database.run(lambda c: health.read(c, self._settings.instance_timeout))
        estimates = await self._database.run(health.wait_estimates)
        report = state.report() | {"wait_estimates": asdict(estimates)}
        system = state.levels.system

        async def keep(connection: Connection) -> int:
            raised = 0
            lasting = [_unhealthy()] if system is Health.UNHEALTHY else []
            lasting += alerts.unserved(await drift.unserved(connection))
            for alert in lasting:
                raised += await alerts.raise_alert(connection, alert)
            for kind in ("unhealthy", "unserved:"):
                await alert_ends.end_others(connection, kind, [alert.cause for alert in lasting])
            await health.keep(connection, report)
            return raised

        return MonitorReport(system, alerts_raised=await self._database.run(keep))


def _unhealthy() -> NewAlert:
    return NewAlert(
        cause="unhealthy",
        title="系统健康告警",
        message="系统整体健康状态为 UNHEALTHY",
        level=AlertLevel.WARNING,
        source="system_monitor",
        lasts=True,
    )

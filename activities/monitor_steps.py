"""The steps of a monitor run: mend what fell between database and engine, then evaluate health."""

from __future__ import annotations

import time

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from infra.cache import Cache
from infra.db import alerts, monitoring, reconciling
from infra.db.alerts import NewAlert
from infra.db.engine import Database
from infra.settings import Settings
from infra.temporal import Engine
from workflows.domain.alert import AlertLevel
from workflows.domain.health import Health
from workflows.messages import Grant, MonitorReport, NodeSignal, TaskInput

AGE_S = 5.0
"""What is younger may still be on its way."""


class MonitorSteps:
    """Implements `workflows.ports.MonitorActivities`."""

    def __init__(self, database: Database, cache: Cache, engine: Engine, settings: Settings) -> None:
        self._database = database
        self._cache = cache
        self._engine = engine
        self._settings = settings

    @activity.defn(name="reconcile")
    async def reconcile(self) -> dict[str, int]:
        """Start what was not started, signal what was not told; counts by kind, without the zeros."""
        read = self._database.run
        starts = [*await read(lambda c: reconciling.not_started(c, AGE_S))]
        starts += await read(lambda c: reconciling.expired(c, AGE_S * 4))
        for row in starts:
            await self._engine.start_task(_input(row))
        uncollected = await read(lambda c: reconciling.uncollected(c, AGE_S))
        for row in uncollected:
            await self._engine.settled(row.task_id, row.attempt)
        undispatched = await read(lambda c: reconciling.undispatched(c, AGE_S * 4))
        for row in undispatched:
            await self._engine.grant(row.task_id, Grant(row.attempt, row.gpu_id))
        unattended = await read(reconciling.unattended)
        for row in unattended:
            await self._engine.signal_node(row.gpu_id, "fault", NodeSignal(row.epoch, "reconcile"))
        found = {
            "started": len(starts),
            "settled": len(uncollected),
            "granted": len(undispatched),
            "nodes": len(unattended),
        }
        return {kind: count for kind, count in found.items() if count}

    @activity.defn(name="check_health")
    async def check_health(self) -> MonitorReport:
        """Evaluate health, raise what it calls for, keep the report."""
        state = await self._database.run(lambda c: monitoring.read(c, self._settings.instance_timeout))
        system = state.levels.system

        async def keep(connection: AsyncConnection) -> int:
            raised = 0
            if system is Health.UNHEALTHY:
                raised = int(await alerts.raise_alert(connection, _unhealthy()))
            await monitoring.keep(connection, state.report())
            return raised

        raised = await self._database.run(keep)
        await self._cache.keep_report(state.report())
        return MonitorReport(system, alerts_raised=raised)


def _input(row: Row[tuple[object, ...]]) -> TaskInput:
    return TaskInput(row.task_id, row.task_type, row.user_id, row.app, row.priority, row.timeout_ms)


def _unhealthy() -> NewAlert:
    """Once an hour at most."""
    return NewAlert(
        dedupe_key=f"unhealthy:{int(time.time() // 3600)}",
        title="系统健康告警",
        message="系统整体健康状态为 UNHEALTHY",
        level=AlertLevel.WARNING,
        source="system_monitor",
    )

"""The steps of a monitor run: mend what fell between database and engine, then evaluate health."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import asdict

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

from activities.explaining import Explanations
from infra.cache import Cache
from infra.db import alerts, monitoring, reconciling
from infra.db.alerts import NewAlert
from infra.db.engine import Database
from infra.settings import Settings
from infra.temporal import Engine, NoSuchWorkflow
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
        self._explanations = Explanations(database, engine, settings)

    @activity.defn(name="reconcile")
    async def reconcile(self) -> dict[str, int]:
        """Start what was not started, signal what was not told; counts by kind, without the zeros.

        Each row is mended by itself: one that can't be is logged and found again by the next run.
        """
        read = self._database.run
        mended: Counter[str] = Counter()
        for row in await read(lambda c: reconciling.not_started(c, AGE_S)):
            mended["started"] += await _tried(self._start(row))
        for row in await read(lambda c: reconciling.expired(c, AGE_S * 4)):
            mended["restarted"] += await _tried(self._start(row))
        for row in await read(lambda c: reconciling.uncollected(c, AGE_S)):
            mended["settled"] += await _tried(self._resume(row, self._tell_settled(row)))
        for row in await read(lambda c: reconciling.undispatched(c, AGE_S * 4)):
            grant = Grant(row.attempt, row.gpu_id)
            mended["granted"] += await _tried(self._resume(row, self._engine.grant(row.task_id, grant)))
        for row in await read(lambda c: reconciling.unattended(c, AGE_S)):
            signal = NodeSignal(row.epoch, "reconcile")
            mended["nodes"] += await _tried(self._engine.signal_node(row.gpu_id, "fault", signal))
        return {kind: count for kind, count in mended.items() if count}

    async def _start(self, row: Row[tuple[object, ...]]) -> None:
        await self._engine.start_task(_input(row), row.traceparent)

    async def _resume(self, row: Row[tuple[object, ...]], signal: Awaitable[None]) -> None:
        """Signal the task's workflow; where none runs, start one: it finds in the row what there is to do."""
        try:
            await signal
        except NoSuchWorkflow:
            await self._start(row)

    async def _tell_settled(self, row: Row[tuple[object, ...]]) -> None:
        """A workflow that has missed even the grant waits for one, and for nothing else: it gets it first."""
        await self._engine.grant(row.task_id, Grant(row.attempt, row.gpu_id))
        await self._engine.settled(row.task_id, row.attempt)

    @activity.defn(name="check_health")
    async def check_health(self) -> MonitorReport:
        """Evaluate health, raise what it calls for, keep the report, and keep true what waiting tasks say."""
        state = await self._database.run(lambda c: monitoring.read(c, self._settings.instance_timeout))
        estimates = await self._database.run(monitoring.wait_estimates)
        report = state.report() | {"wait_estimates": asdict(estimates)}
        system = state.levels.system

        async def keep(connection: AsyncConnection) -> int:
            raised = 0
            if system is Health.UNHEALTHY:
                raised += await alerts.raise_alert(connection, _unhealthy())
            for row in await reconciling.unserved(connection):
                raised += await alerts.raise_alert(connection, alerts.unserved(row.task_type, row.task_id))
            await monitoring.keep(connection, report)
            return raised

        raised = await self._database.run(keep)
        await self._cache.keep_report(report)
        await self._explanations.refresh()
        return MonitorReport(system, alerts_raised=raised)


def _input(row: Row[tuple[object, ...]]) -> TaskInput:
    return TaskInput(row.task_id, row.task_type, row.user_id, row.app, row.priority, row.timeout_ms)


async def _tried(work: Awaitable[None]) -> bool:
    """Whether it could be done."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  the next run finds it again
        activity.logger.warning("could not be mended now: %s", error)
        return False
    return True


def _unhealthy() -> NewAlert:
    """Once an hour at most."""
    return NewAlert(
        dedupe_key=f"unhealthy:{int(time.time() // 3600)}",
        title="系统健康告警",
        message="系统整体健康状态为 UNHEALTHY",
        level=AlertLevel.WARNING,
        source="system_monitor",
    )

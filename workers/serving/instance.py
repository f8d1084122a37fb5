"""One instance of the cluster: it beats, competes for the leader lease, and leads while it holds it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from functools import partial
from importlib.metadata import version

import psutil

from infra.db import alerts, counters, gpus, instances, monitoring, queue, silence
from infra.db.connection import Connection
from infra.db.engine import Database, is_unavailable
from infra.db.instances import Load
from infra.db.notifications import NodeEvent, Notifications
from infra.db.silence import Silence
from infra.settings import Settings
from infra.temporal.access import TemporalAway
from infra.temporal.gateway import TemporalGateway
from workers.leader.stuck_workflows import StuckWorkflows
from workers.serving.disk import Disk, fullest

PROMOTED_AT_ONCE = 200  # tasks per turn
TOLD_AGAIN_S = 10.0
LATE_INTERVALS, LATE_S = 3, 60.0
"""The monitor is late after this many of its intervals and at least `LATE_S` seconds."""
FORGOTTEN_AFTER = 8
"""Instance timeouts after which a silent instance is no longer shown, nor counted against the cluster's health."""

log = logging.getLogger(__name__)


class Instance:
    """Beats every third of the lease. The leader looks for silent nodes and idle slots."""

    def __init__(self, kind: str, database: Database, engine: TemporalGateway, settings: Settings) -> None:
        self.id = ""
        self.leads = False
        self._told: dict[tuple[str, int], float] = {}  # silent (gpu id, epoch) -> when its workflow was signalled
        self._kind = kind
        self._database = database
        self._engine = engine
        self._settings = settings
        self._hostname = socket.gethostname()
        self._stuck = StuckWorkflows(database, engine, strict_vip=settings.vip_nodes_strict)
        self._late_s = max(LATE_INTERVALS * settings.monitor_interval, LATE_S)
        self._looks_at_monitor = time.monotonic() + self._late_s

    async def run(self) -> None:
        """Until cancelled; then the row goes and the lease is free at once."""
        try:
            while True:
                try:
                    await self._turn()
                except Exception as error:
                    self.leads = False
                    if not is_unavailable(error):
                        log.exception("an instance's turn failed")
                await asyncio.sleep(self._pause)
        finally:
            self._stuck.stop()
            await self._leave()

    @property
    def _pause(self) -> float:
        """Seconds between turns: short enough for the lease, the instance timeout and the grace."""
        settings = self._settings
        return min(
            settings.leader_lease / 3, settings.instance_timeout / 3, max(settings.heartbeat_timeout / 8, 0.25), 2.0
        )

    async def _turn(self) -> None:
        disk = fullest(self._settings.data_dir)
        load = Load(psutil.cpu_percent(), psutil.virtual_memory().percent, disk.percent)
        deaf_s = silence.deaf_after_s(self._settings.heartbeat_timeout)
        if not self.id or not await self._database.run(lambda c: instances.beat(c, self.id, load, deaf_s)):
            self.id = await self._database.run(
                lambda c: instances.join(
                    c,
                    kind=self._kind,
                    hostname=self._hostname,
                    pid=os.getpid(),
                    version=version("gpu-orchestrator"),
                )
            )
        if disk.nearly_full:
            await self._database.run(lambda c: self._report(disk, c))
        self.leads = (
            await self._database.run(lambda c: instances.lead(c, self.id, self._settings.leader_lease)) is not None
        )
        if self.leads:
            await self._lead()

    async def _report(self, disk: Disk, connection: Connection) -> None:
        await instances.report_disk(connection, self._hostname)
        alert = alerts.disk_nearly_full(self._hostname, str(disk.folder), disk.free, disk.total)
        await alerts.raise_alert(connection, alert)

    async def _lead(self) -> None:
        settings, run = self._settings, self._database.run
        await run(counters.fold)
        await run(lambda c: instances.purge(c, settings.instance_timeout * FORGOTTEN_AFTER))
        await run(gpus.set_right)
        await run(lambda c: queue.promote(c, settings.aging, limit=PROMOTED_AT_ONCE))
        for gpu_id in await run(gpus.standing_free):
            await self._engine.deliver(await run(partial(self._put_to_work, gpu_id)))
        await self._tell_the_silent(await run(lambda c: silence.find(c, settings.heartbeat_timeout)))
        await self._run_late_monitor()
        self._stuck.look()

    async def _run_late_monitor(self) -> None:
        """The next time of the monitor's schedule lies far ahead where the engine's clock was set back."""
        now = time.monotonic()
        if now < self._looks_at_monitor:
            return
        self._looks_at_monitor = now + self._late_s
        if await self._database.run(lambda c: monitoring.is_late(c, self._late_s)):
            try:
                await self._engine.trigger_monitor()
            except TemporalAway as error:
                log.info("the monitor is late, and can't be run: %s", error)

    async def _tell_the_silent(self, found: Silence) -> None:
        """Signal the workflow of each silent node, at most once per `TOLD_AGAIN_S`; it looks at the row itself."""
        now = time.monotonic()
        self._told = {node: at for node, at in self._told.items() if at > now - TOLD_AGAIN_S}
        new = [node for node in found.lapsed if node not in self._told]
        self._told |= dict.fromkeys(new, now)
        await self._engine.deliver(Notifications(nodes=[NodeEvent(gpu_id, "silent", epoch) for gpu_id, epoch in new]))
        if found.held:
            alert = alerts.fleet_silent(found.held, found.fleet)
            await self._database.run(lambda c: alerts.raise_alert(c, alert))

    async def _put_to_work(self, gpu_id: str, connection: Connection) -> Notifications:
        return await gpus.put_to_work(connection, gpu_id, strict_vip=self._settings.vip_nodes_strict)

    async def _leave(self) -> None:
        if self.id:
            try:
                await asyncio.wait_for(self._database.run(lambda c: instances.leave(c, self.id)), 2)
            except Exception as error:  # noqa: BLE001  leaving is a courtesy
                log.info("could not sign off: %s", error)

"""One instance of the cluster: it beats, competes for the leader lease, and leads while it holds it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from importlib.metadata import version

import psutil

from infra.db.connection import Connection
from infra.db.nodes import liveness
from infra.db.ops import alerts, instances, leadership
from infra.db.ops.instances import Load
from infra.db.session import Database, is_unavailable
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workers.leader.leader import Leader
from workers.serving.disk import Disk, fullest

AT_MOST_S = 1.5
"""The most seconds from the start of one turn to the start of the next: what is due is done within 2 s."""
AT_LEAST_S = 0.1
"""Seconds between a turn that took longer and the next."""

log = logging.getLogger(__name__)


class Instance:
    """Beats and competes for the lease in each turn (`_pause`). While it leads, a turn also runs the leader's jobs."""

    def __init__(self, kind: str, database: Database, temporal: TemporalGateway, settings: Settings) -> None:
        self.id = ""
        self._kind = kind
        self._database = database
        self._settings = settings
        self._hostname = socket.gethostname()
        self._leader = Leader(database, temporal, settings)

    async def run(self) -> None:
        """Run until cancelled; then remove the row, and free the lease at once."""
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._turn()
                except Exception as error:
                    if not is_unavailable(error):
                        log.exception("an instance's turn failed")
                await asyncio.sleep(max(self._pause - (time.monotonic() - began), AT_LEAST_S))
        finally:
            self._leader.stop()
            await self._leave()

    @property
    def _pause(self) -> float:
        """Seconds from turn to turn: short enough for the lease, the instance timeout, the grace, and deadlines."""
        settings = self._settings
        return min(
            settings.leader_lease / 3,
            settings.instance_timeout / 3,
            max(settings.heartbeat_timeout / 8, 0.25),
            AT_MOST_S,
        )

    async def _turn(self) -> None:
        disk = fullest(self._settings.data_dir)
        load = Load(psutil.cpu_percent(), psutil.virtual_memory().percent, disk.percent)
        deaf_s = liveness.deaf_after_s(self._settings.heartbeat_timeout)
        if not self.id or not await self._database.single(lambda c: instances.beat(c, self.id, load, deaf_s)):
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
        if await self._database.single(lambda c: leadership.lead(c, self.id, self._settings.leader_lease)) is not None:
            await self._leader.turn()

    async def _report(self, disk: Disk, connection: Connection) -> None:
        await instances.report_disk(connection, self._hostname)
        alert = alerts.disk_nearly_full(self._hostname, str(disk.folder), disk.free, disk.total)
        await alerts.raise_alert(connection, alert)

    async def _leave(self) -> None:
        if self.id:
            try:
                await asyncio.wait_for(self._database.run(lambda c: instances.leave(c, self.id)), 2)
            except Exception as error:  # noqa: BLE001  leaving is a courtesy
                log.info("could not sign off: %s", error)

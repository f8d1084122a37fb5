"""A node: its parts, assembled, and its life from setup to drain."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys

from infra.environment.own_address import http_url
from workers.node.attempt_log import AttemptLog
from workers.node.child import Launcher
from workers.node.detect import detect
from workers.node.errors import SetupFailed
from workers.node.executions import Executions
from workers.node.membership import Membership, Registration
from workers.node.options import Options
from workers.node.orchestrator import Orchestrator
from workers.node.outcome import handed_back
from workers.node.records import Records
from workers.node.room import Room
from workers.node.runner import Runner
from workers.node.server import NodeServer, create_app
from workers.node.slots import Slots
from workers.node.state_dir import StateDir
from workers.waiting import pauses, unless

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0  # seconds between two tries to get ready


class Node:
    """One run of the agent."""

    def __init__(self, options: Options, listener: socket.socket) -> None:
        """Assemble it; raises StateDirTaken."""
        self._options = options
        self._listener = listener
        self._state = StateDir(options.state_dir) if options.state_dir else None
        self._log = AttemptLog(options.state_dir, options.gpu_id)
        secret = secrets.token_urlsafe(32)
        hardware = detect(os.environ)
        self._slots = Slots(options.slots or hardware.default_slots, hardware.devices)
        self._registration = Registration(options, hardware, listener.getsockname()[1], len(self._slots.all), secret)
        self._orchestrator = Orchestrator(options.api, options.api_key, options.trust)
        self._membership = Membership(self._orchestrator, self._registration)
        self._launcher = Launcher(os.environ, options.run_as, adopts=True)
        self._runner = Runner(options.work, self._launcher)
        self._executions = Executions(
            options.gpu_id,
            self._slots,
            self._runner,
            self._remember(),
            self._log,
            self._orchestrator,
            Room(options.state_dir),
        )
        self._server = NodeServer(create_app(self._executions, secret, lambda: self._membership.has_joined))
        self._serving: asyncio.Task[None] | None = None
        self._stop, self._abort = asyncio.Event(), asyncio.Event()

    async def serve(self) -> int:
        """The node's life: its exit status. Raises Refused."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        life = asyncio.create_task(self._live())
        abort = asyncio.create_task(self._abort.wait())
        await asyncio.wait([life, abort, self._serving], return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            return life.result()
        log.error("stopping at once")
        life.cancel()
        return 1

    async def close(self) -> None:
        """Leave no process and no file open, wherever the life ended."""
        self._executions.stop_all()
        self._launcher.kill_all()
        await self._executions.close()
        await self._runner.close()
        if self._serving:
            self._server.should_exit = True
            await asyncio.wait([self._serving])
        await self._orchestrator.close()
        self._log.close()
        if self._state:
            self._state.close()

    async def _live(self) -> int:
        if await unless(self._stop, self._get_ready()):
            await self._work()
        return 1 if self._executions.setup_failure else 0

    async def _set_up(self) -> None:
        """Prepare all the work, again and again until it can be started."""
        for pause in pauses(_FIRST_PAUSE, _LAST_PAUSE):
            try:
                await self._runner.set_up(self._slots.all)
            except SetupFailed as failure:
                if str(failure) != str(self._executions.setup_failure):
                    log.error("setup failed, trying again until it works: %s", failure)
                self._executions.setup_failure = failure
            else:
                self._executions.setup_failure = None
                return
            await asyncio.sleep(pause)

    async def _get_ready(self) -> None:
        await self._set_up()
        self._executions.phase = "READY"
        await self._membership.join()
        ip = self._registration.ip(self._orchestrator.address)
        url = http_url(ip, self._registration.advertised_port)
        types = ",".join(map(str, self._runner.types))
        sys.stdout.write(f"node ready: {self._options.gpu_id} {url} types=[{types}] slots={len(self._slots.all)}\n")
        sys.stdout.flush()

    async def _work(self) -> None:
        self._executions.resume_reports()
        beats = asyncio.create_task(self._membership.beat(self._options.heartbeat_interval))
        try:
            await unless(self._stop, asyncio.shield(beats))  # ends by itself only where the node is refused
            log.info("draining")
            await self._executions.drain(self._options.drain_timeout)  # beating on: what still runs is not lost
        finally:
            beats.cancel()
        if self._options.deregister_on_exit:
            await self._membership.leave()

    def _on_signal(self) -> None:
        (self._abort if self._stop.is_set() else self._stop).set()

    def _remember(self) -> Records:
        """Load the records of earlier runs. Work that they left running died with them, and is handed back."""
        if self._state is None:
            return Records()
        records = Records(self._state.load(), self._state)
        for record in records.unfinished():
            end = record.ended(handed_back("the node was restarted"))
            try:
                records.finish(end)
            except OSError as error:
                log.error("cannot write the state directory: %s", error)
            self._log.write(end.status, end)
        return records

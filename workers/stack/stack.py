"""The whole stack of one data directory: services, our programs, local nodes; for `run`, the demo and the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from infra.data_dir.embedded import forget_foreign
from infra.data_dir.layout import DataDir
from infra.settings import Settings
from workers.stack import programs
from workers.stack.api_key import bootstrap_key, forget_replaced
from workers.stack.logs import Log
from workers.stack.part import Part
from workers.stack.programs import LocalNodes
from workers.stack.services import addresses, embedded_parts, embedded_ports
from workers.stack.supervisor import Port, Supervisor


class Stack:
    """Runs between `async with Stack(settings) as stack:` and its end, at most 10 s later.

    Parts are named postgres, redis, temporal (the embedded ones), migrate, worker, api, gpu_001, gpu_002, …
    """

    def __init__(
        self,
        settings: Settings,
        *,
        with_programs: bool = True,
        nodes: int | LocalNodes | None = None,
        log: Log | None = None,
    ) -> None:
        """`nodes` are the local agents, by default DEMO_NODES of them. Raises StackError if something is not installed.

        Makes the bootstrap key if there is none, and creates the data directory.
        """
        forget_foreign(settings)
        self.settings = settings
        self.data_dir = DataDir.create(settings.data_dir)
        self.services = addresses(settings, self.data_dir)
        self.api_key = bootstrap_key(settings.api_key, self.data_dir.api_key)
        self.api_url = settings.local_url
        self._with_programs = with_programs
        waves = [embedded_parts(settings, self.data_dir)]
        ports = embedded_ports(settings)
        if with_programs:
            key = self.api_key.secret
            env = programs.environment(settings, self.services, self.data_dir, key)
            waves += programs.programs(settings, self.services, env)
            nodes = settings.demo_nodes if nodes is None else nodes
            local = nodes if isinstance(nodes, LocalNodes) else LocalNodes(nodes)
            waves.append(programs.nodes(local, settings, self.services, self.data_dir))
            ports.append(Port(settings.host, settings.port, "ORCHESTRATOR_PORT"))
        self._supervisor = Supervisor(self.data_dir, waves, ports, log)

    def part(self, name: str) -> Part:
        """One part, to be killed, stopped or started. Raises KeyError."""
        return self._supervisor.parts[name]

    async def start(self) -> None:
        """Start everything, and return when a task can be accepted. The caller calls `stop`, after errors too.

        Raises PortTaken or DataDirInUse before anything is started, PartFailed if a part does not come up.
        """
        await self._supervisor.start()
        await self._look_at_key()

    async def _look_at_key(self) -> None:
        """Check that the API takes our key: a replaced one is never valid again (`infra.db.access.bootstrap_key`)."""
        if not self._with_programs:
            return
        if await programs.is_refused(self.settings, self.api_key.secret):
            self.api_key = replace(self.api_key, is_dead=True)
        else:
            forget_replaced(self.api_key, self.data_dir.api_key)

    async def stop(self) -> None:
        """Stop everything in the reverse order."""
        await self._supervisor.stop()

    def kill(self) -> None:
        """Kill everything with SIGKILL, if a stop takes too long."""
        self._supervisor.kill()

    async def __aenter__(self) -> Self:
        await self._supervisor.__aenter__()
        await self._look_at_key()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

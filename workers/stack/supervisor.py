"""Parts started wave after wave, each when the one before is ready, and stopped in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from infra.data_dir.layout import DataDir
from workers.stack.leftovers import stop_leftovers
from workers.stack.logs import Log, console
from workers.stack.part import Part, PartSpec
from workers.stack.ports import require_free

READY_TIMEOUT = 60.0  # s for one wave; the first start of Postgres makes its files


class Port(NamedTuple):
    """A port that has to be free, and the environment variable that chose it."""

    host: str
    number: int
    setting: str


class Supervisor:
    """Keeps the parts of one data directory running; an async context manager.

    Waves are stopped one after the other, so the longest graces of all waves add up: at most 10 s.
    """

    def __init__(
        self, data_dir: DataDir, waves: Iterable[Sequence[PartSpec]], ports: Iterable[Port] = (), log: Log | None = None
    ) -> None:
        self._data_dir = data_dir
        self._ports = tuple(ports)
        self._log = log or console()
        self._waves = [[Part(spec, data_dir, self._log) for spec in wave] for wave in waves]
        self._held = ExitStack()
        self.parts = {part.name: part for wave in self._waves for part in wave}

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start all parts and wait until they are ready. The caller calls `stop`, after errors too.

        Raises StackError, such as DataDirInUse or PortTaken, before anything is started, and PartFailed if a part does
        not come up.
        """
        self._data_dir.require_space()
        self._held.enter_context(self._data_dir.locked())
        for name in await stop_leftovers(self._data_dir.run):
            self._log(name, "was left running by an earlier stack on this data directory: stopped")
        for port in self._ports:
            require_free(*port)
        for wave in self._waves:
            await _bring_up(wave)

    async def stop(self) -> None:
        """Stop all parts, last wave first."""
        for wave in reversed(self._waves):
            await asyncio.gather(*(part.stop() for part in wave))
        self._held.close()

    def kill(self) -> None:
        """Kill every running part with SIGKILL, if a `stop` takes too long."""
        for part in self.parts.values():
            part.abandon()


async def _bring_up(wave: Sequence[Part]) -> None:
    for part in wave:
        part.start()
    try:
        async with asyncio.TaskGroup() as group:
            for part in wave:
                group.create_task(part.until_ready(READY_TIMEOUT))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None

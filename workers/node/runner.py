"""Runs one attempt to its outcome, whatever kind of work its type is."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Protocol

from workers.node.assignment import Assignment
from workers.node.child import Launcher
from workers.node.command_run import CommandOutput
from workers.node.errors import SetupFailed, Stopped
from workers.node.outcome import Outcome, failed
from workers.node.slots import Slot
from workers.node.spares import Spares
from workers.node.waiting import first_of
from workers.node.work import Command, Handler, Work


class Watch(Protocol):
    """Receives the progress of an attempt, and may stop it."""

    @property
    def stopped(self) -> asyncio.Future[Outcome]: ...
    def begin(self) -> None: ...
    def progress(self, percent: int) -> None: ...


class Runner:
    """The work of this node, by task type; no process of an attempt outlives its run."""

    def __init__(self, work: Mapping[int, Work], launcher: Launcher) -> None:
        self.types = sorted(work)
        self._work = work
        self._launcher = launcher
        self._spares = Spares(launcher)

    async def set_up(self, slots: Sequence[Slot]) -> None:
        """Check that every piece of work could run; raises SetupFailed."""
        for work in self._work.values():
            if isinstance(work, Command) and not shutil.which(work.argv[0]):
                raise SetupFailed(f"the command {work.argv[0]!r} is not found")
        await self._launcher.check(slots[0])
        targets = {work.target: None for work in self._work.values() if isinstance(work, Handler)}
        await self._spares.fill(slots, list(targets))

    async def run(self, assignment: Assignment, slot: Slot, watch: Watch) -> Outcome:
        """Run it; raises OSError where no process can be started, Stopped where the watch had it killed."""
        match self._work[assignment.task_type]:
            case Command(argv):
                return await self._run_command(argv, assignment, slot, watch)
            case Handler(target):
                return await self._run_handler(target, assignment, slot, watch)

    async def close(self) -> None:
        """End the processes that wait for work."""
        await self._spares.close()

    async def _run_command(self, argv: Sequence[str], assignment: Assignment, slot: Slot, watch: Watch) -> Outcome:
        output = CommandOutput(assignment.id, watch.progress)
        watch.begin()
        with tempfile.TemporaryFile() as stdin:  # a file, so that a program that does not read cannot block anybody
            stdin.write(assignment.input_json.encode())
            stdin.seek(0)
            child = await self._launcher.launch(argv, slot, assignment.environment(), output, stdin)
        await first_of(child.exited, watch.stopped)
        ended_itself = child.exited.done()
        status = await self._launcher.close(child)
        if not ended_itself:
            raise Stopped
        return output.outcome(status)

    async def _run_handler(self, target: str, assignment: Assignment, slot: Slot, watch: Watch) -> Outcome:
        process = await self._spares.take(slot, target)
        try:
            await process.ready(watch.stopped)
            watch.begin()
            await process.work(assignment, watch.progress, watch.stopped)
        except SetupFailed as error:
            return failed(str(error))
        finally:
            outcome = await process.close()
            self._spares.refill(slot, target)
        return outcome

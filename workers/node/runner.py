"""Runs one attempt to its outcome, for every kind of work."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Protocol

from workers.node.assignment import Assignment
from workers.node.child import Launcher
from workers.node.command_run import CommandOutput
from workers.node.errors import CannotStart, SetupFailed, Stopped
from workers.node.outcome import Outcome
from workers.node.slots import Slot
from workers.node.spares import Spares
from workers.node.starts import Starts
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
        self.starts = Starts()
        self._work = work
        self._launcher = launcher
        self._spares = Spares(launcher)

    async def set_up(self, slots: Sequence[Slot]) -> None:
        """Check that every piece of work could run; raises SetupFailed."""
        for work in self._work.values():
            if isinstance(work, Command) and not shutil.which(work.argv[0]):
                raise SetupFailed(f"the command {work.argv[0]!r} is not found")
        targets = {work.target: None for work in self._work.values() if isinstance(work, Handler)}
        try:
            await self._launcher.check(slots[0])
            await self._spares.fill(slots, list(targets))
        except OSError as error:
            raise SetupFailed(f"no process can be started: {error}") from None

    async def run(self, assignment: Assignment, slot: Slot, watch: Watch) -> Outcome:
        """Run it; raises CannotStart, for no fault of the task's, and Stopped where the watch had it killed."""
        with self.starts.tried(assignment.task_type):
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
        try:
            with tempfile.TemporaryFile() as stdin:  # a file, so that a program that does not read does not block us
                stdin.write(assignment.input_json.encode())
                stdin.seek(0)
                child = await self._launcher.launch(argv, slot, assignment.environment(), output, stdin)
        except OSError as error:
            raise CannotStart(f"the work cannot be started: {error}") from None
        self.starts.worked(assignment.task_type)
        await first_of(child.exited, watch.stopped)
        ended_itself = child.exited.done()
        status = await self._launcher.close(child)
        if not ended_itself:
            raise Stopped
        return output.outcome(status)

    async def _run_handler(self, target: str, assignment: Assignment, slot: Slot, watch: Watch) -> Outcome:
        try:
            process = await self._spares.take(slot, target)
        except OSError as error:
            raise CannotStart(f"the work cannot be started: {error}") from None
        try:
            await process.ready(watch.stopped)
            watch.begin()
            self.starts.worked(assignment.task_type)
            await process.work(assignment, watch.progress, watch.stopped)
        finally:
            outcome = await process.close()
            self._spares.refill(slot, target)
        return outcome

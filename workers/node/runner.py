"""Runs one attempt to its outcome, for every kind of work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence

from workers.node.child import Launcher
from workers.node.command_run import CommandOutput
from workers.node.errors import CannotStart, SetupFailed, Stopped
from workers.node.execution import Execution
from workers.node.outcome import Outcome
from workers.node.slots import Slot
from workers.node.spares import Spares
from workers.node.starts import Starts
from workers.node.work import Command, Handler, Work
from workers.waiting import first_of


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

    async def run(self, execution: Execution) -> Outcome:
        """Run it; raises CannotStart, for no fault of the task's, and Stopped where it was to be killed."""
        task_type = execution.assignment.task_type
        with self.starts.tried(task_type):
            match self._work[task_type]:
                case Command(argv):
                    return await self._run_command(argv, execution)
                case Handler(target):
                    return await self._run_handler(target, execution)

    async def close(self) -> None:
        """End the processes that wait for work."""
        await self._spares.close()

    async def _run_command(self, argv: Sequence[str], execution: Execution) -> Outcome:
        assignment = execution.assignment
        output = CommandOutput(assignment.id, execution.progress)
        execution.begin()
        try:
            with tempfile.TemporaryFile() as stdin:  # a file, so that a program that does not read does not block us
                stdin.write(assignment.input_json.encode())
                stdin.seek(0)
                child = await self._launcher.launch(argv, execution.slot, assignment.environment(), output, stdin)
        except OSError as error:
            raise CannotStart(f"the work cannot be started: {error}") from None
        self.starts.worked(assignment.task_type)
        await first_of(child.exited, execution.stopped)
        ended_itself = child.exited.done()
        status = await self._launcher.close(child)
        if not ended_itself:
            raise Stopped
        return output.outcome(status)

    async def _run_handler(self, target: str, execution: Execution) -> Outcome:
        slot = execution.slot
        try:
            process = await self._spares.take(slot, target)
        except OSError as error:
            raise CannotStart(f"the work cannot be started: {error}") from None
        try:
            await process.ready(execution.stopped)
            execution.begin()
            self.starts.worked(execution.assignment.task_type)
            await process.work(execution.assignment, execution.progress, execution.stopped)
        finally:
            outcome = await process.close()
            self._spares.refill(slot, target)
        return outcome

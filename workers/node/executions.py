"""The attempts that run on this node now: each id is accepted once, can be stopped, and has one end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

from cachetools import TTLCache

from workers.node.assignment import Assignment
from workers.node.attempt_log import AttemptLog
from workers.node.errors import CannotStart, NoFreeSlot, NotReady, SetupFailed, Stopped, UnservedType
from workers.node.execution import Execution
from workers.node.orchestrator import Orchestrator
from workers.node.outcome import Outcome, canceled, failed, handed_back
from workers.node.records import Record, Records, accepted
from workers.node.reporter import ProgressReports, deliver
from workers.node.room import Room
from workers.node.runner import Runner
from workers.node.slots import Slots
from workers.node.supervise import GRACE
from workers.node.trace import ExecutionTrace, traced
from workers.waiting import settle

log = logging.getLogger(__name__)

Phase = Literal["STARTING", "READY", "DRAINING"]

_STOP_LIMIT = 3.0  # seconds for which the answer to a cancel waits for the process to be gone (node protocol)
_EARLY_CANCELS, _EARLY_S = 10_000, 60.0  # ids that were cancelled before they came: how many, and for how long
_REPORT_GRACE = 10.0  # seconds that the last reports may take when the node drains


class Executions:
    """Accepts attempts into slots and sees each of them through to its last report."""

    def __init__(
        self,
        gpu_id: str,
        slots: Slots,
        runner: Runner,
        records: Records,
        attempt_log: AttemptLog,
        orchestrator: Orchestrator,
        room: Room,
    ) -> None:
        self.phase: Phase = "STARTING"
        self.setup_failure: SetupFailed | None = None
        self._gpu_id = gpu_id
        self._slots = slots
        self._runner = runner
        self._records = records
        self._attempt_log = attempt_log
        self._orchestrator = orchestrator
        self._room = room
        self._active: dict[str, Execution] = {}
        self._cancelled_early: TTLCache[str, bool] = TTLCache(_EARLY_CANCELS, _EARLY_S)
        self._running: set[asyncio.Task[None]] = set()
        self._reporting: set[asyncio.Task[None]] = set()

    @property
    def health(self) -> str:
        """The `status` of `/health-check`."""
        if self.phase == "DRAINING":
            return "BUSY"
        if self.reason is not None:
            return "SETUP_FAILED" if isinstance(self._failure, SetupFailed) else "DEFUNCT"
        return "BUSY" if self.phase == "READY" and not self._slots.any_free else self.phase

    @property
    def reason(self) -> str | None:
        """Why work cannot be started, as far as that is known from the last try and the disks."""
        if self._failure is None and self.phase == "READY" and (full := self._room.full):
            return _full(full)
        return None if self._failure is None else str(self._failure)

    @property
    def _failure(self) -> CannotStart | None:
        return self.setup_failure or self._runner.starts.failure

    def find(self, id: str) -> Record | None:
        """The record of an id, if the node has ever seen it."""
        return self._records.find(id)

    def accept(self, assignment: Assignment) -> Record:
        """Take on an id that was never seen; raises NotReady, UnservedType, NoFreeSlot.

        One that was cancelled while its PUT was under way does not run.
        """
        if assignment.id in self._cancelled_early:
            return self._not_run(assignment)
        if self.phase != "READY":
            raise NotReady(f"the node is {self.phase.lower().replace('_', ' ')}")
        if assignment.task_type not in self._runner.types:
            raise UnservedType(f"taskType: this node serves {self._runner.types}")
        if not self._slots.any_free:
            raise NoFreeSlot
        if full := self._room.full:
            raise NotReady(_full(full))
        self._runner.starts.check(assignment.task_type)
        assignment, trace = traced(assignment, self._gpu_id)
        record = self._new(assignment)
        self._remember(record)
        self._start(assignment, record, trace)
        return record

    async def hold(self, record: Record, seconds: float, gone: asyncio.Future[Any]) -> Record:
        """The record once the attempt has ended, or as it is after `seconds` or once the caller is `gone`.

        While a caller waits here, the end is reported by the answer, where that can carry it.
        """
        if execution := self._active.get(record.id):
            await execution.hold(seconds, gone)
        return self._records.find(record.id) or record

    async def cancel(self, id: str) -> Record | None:
        """Stop an attempt, whose end is settled with this call; one that has ended stays as it is.

        Returns once its process is gone and its slot is free, or after `_STOP_LIMIT`; None for an id never seen.
        """
        if self._records.find(id) is None:
            self._cancelled_early[id] = True
        if execution := self._active.get(id):
            execution.cancel()
            await asyncio.wait([execution.gone], timeout=_STOP_LIMIT)
        return self._records.find(id)

    def has_stopped(self, id: str) -> bool:
        """Whether no process of this attempt runs here."""
        return id not in self._active

    def resume_reports(self) -> None:
        """Send the last reports that an earlier run of the agent could not get rid of."""
        for record in self._records.unreported():
            self._spawn(self._reporting, self._deliver(record))

    async def drain(self, seconds: float) -> None:
        """Take nothing more, hand back what has not begun, and kill what still runs after `seconds`."""
        self.phase = "DRAINING"
        for execution in self._active.values():
            if not execution.has_begun:
                execution.stop(handed_back("the node is draining"))
        await settle(self._running, seconds)
        self.stop_all()
        await settle(self._running, 3 * GRACE)
        await settle(self._reporting, _REPORT_GRACE)

    def stop_all(self) -> None:
        """Kill everything that still runs, and hand it back."""
        self.phase = "DRAINING" if self.phase == "READY" else self.phase
        for execution in self._active.values():
            execution.stop(handed_back("the node was shut down"))

    async def close(self) -> None:
        """Wait after `stop_all`, up to `GRACE`, until the ends are recorded. Nothing is reported any more."""
        await settle(self._running, GRACE)
        for report in self._reporting:
            report.cancel()
        await settle(self._reporting, GRACE)

    def _new(self, assignment: Assignment) -> Record:
        return accepted(assignment, self._orchestrator.report_path(assignment.webhook, assignment.task_id))

    def _not_run(self, assignment: Assignment) -> Record:
        record = self._new(assignment).ended(canceled())
        self._store_end(record)
        log.info("%s was cancelled before it arrived", record.id)
        return record

    def _remember(self, record: Record) -> None:
        try:
            self._records.add(record)
        except OSError as error:
            log.error("cannot write the state directory: %s", error)
            raise NotReady(f"the state directory cannot be written: {error.strerror}") from None
        self._attempt_log.write("accepted", record)

    def _start(self, assignment: Assignment, record: Record, trace: ExecutionTrace) -> None:
        slot = self._slots.take()
        assert slot is not None  # looked before, and nothing was awaited since
        reports = ProgressReports(self._orchestrator, self._gpu_id, record.address)
        execution = Execution(assignment, slot, self._records, self._attempt_log, reports, trace)
        self._active[record.id] = execution
        log.info("%s accepted, type %d, slot %d", record.id, record.task_type, slot.index)
        self._spawn(self._running, self._execute(execution))

    async def _execute(self, execution: Execution) -> None:
        outcome = await self._perform(execution)
        record = execution.record.ended(outcome)
        execution.trace.end(record)
        del self._active[record.id]
        # Before the report: the orchestrator's answer to it may be the next attempt for this slot.
        self._slots.release(execution.slot)
        execution.gone.set_result(None)
        # Logged before it is stored, and so before any report: no result is accepted that the log does not know.
        self._attempt_log.write(record.status, record)
        self._store_end(record)
        log.info("%s %s%s", record.id, record.status, f": {record.error}" if record.error else "")
        self._spawn(self._reporting, self._report(execution, record))

    async def _perform(self, execution: Execution) -> Outcome:
        try:
            with execution.deadline():
                outcome = await self._runner.run(execution)
            return canceled() if execution.is_canceled else outcome
        except Stopped:
            return execution.stopped.result()
        except CannotStart as failure:
            log.error("%s: %s", execution.assignment.id, failure)
            return execution.stopped.result() if execution.stopped.done() else handed_back(str(failure))
        except Exception:
            log.exception("%s: unexpected error in the agent", execution.assignment.id)
            return failed("the node agent failed, see its log")

    async def _report(self, execution: Execution, record: Record) -> None:
        """Report the end, unless the answer to a PUT that is held brings it."""
        await execution.reports.close()
        if execution.is_held and record.fits_answer:
            self._store_reported(record)
        elif not record.reported:
            await self._deliver(record)
        execution.mark_reported()

    async def _deliver(self, record: Record) -> None:
        await deliver(self._orchestrator, self._gpu_id, record)
        self._store_reported(record)

    def _store_reported(self, record: Record) -> None:
        try:
            self._records.reported(record.id)
        except OSError as error:
            log.error("cannot write the state directory: %s", error)

    def _store_end(self, record: Record) -> None:
        try:
            self._records.finish(record)
        except OSError as error:
            log.error("cannot write the state directory: %s", error)

    def _spawn(self, tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _full(folder: Path) -> str:
    return f"the disk of {folder} is full"

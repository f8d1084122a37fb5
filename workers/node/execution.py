"""One accepted attempt that has not ended yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from workers.node.assignment import Assignment
from workers.node.attempt_log import AttemptLog
from workers.node.errors import Stopped
from workers.node.outcome import Outcome, canceled, overdue
from workers.node.records import Record, Records
from workers.node.reporter import ProgressReports
from workers.node.slots import Slot
from workers.node.trace import ExecutionTrace

DEADLINE_SLACK = 2.0  # seconds that the orchestrator, whose clock starts a little later, is given to cancel it itself


class Execution:
    """Its slot, its state, and the order to stop, which carries the end that the attempt then has."""

    def __init__(
        self,
        assignment: Assignment,
        slot: Slot,
        records: Records,
        log: AttemptLog,
        reports: ProgressReports,
        trace: ExecutionTrace,
    ) -> None:
        self.assignment = assignment
        self.slot = slot
        self.reports = reports
        self.trace = trace
        self.has_begun = False
        self.stopped: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once its process is gone and its slot is free."""
        self._reported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holds = 0
        self._records = records
        self._log = log

    @property
    def record(self) -> Record:
        """Its state as the protocol shows it."""
        record = self._records.find(self.assignment.id)
        assert record is not None  # unfinished records are never forgotten
        return record

    @property
    def is_canceled(self) -> bool:
        """Whether a cancel was answered: after that not even a result counts."""
        return self.stopped.done() and self.stopped.result() == canceled()

    def begin(self) -> None:
        """The user's work begins with the next statement; raises Stopped where it must not any more."""
        if self.stopped.done():
            raise Stopped
        self.has_begun = True
        self._records.update(replace(self.record, status="processing"))
        self._log.write("started", self.record)
        self.trace.begin()
        self.reports.begin()

    def progress(self, percent: int) -> None:
        """0 to 100, from the work itself."""
        self._records.update(replace(self.record, progress=percent))
        self.reports.progress(percent)

    @property
    def is_held(self) -> bool:
        """Whether a caller waits for the end, to give it in the answer to a PUT."""
        return self._holds > 0

    async def hold(self, seconds: float, gone: asyncio.Future[Any]) -> None:
        """Wait until the end is reported, or is to be answered; at most for `seconds`, and until the caller is gone."""
        self._holds += 1
        try:
            await asyncio.wait((self._reported, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._holds -= 1

    def mark_reported(self) -> None:
        """The end is reported, or is to be answered."""
        self._reported.set_result(None)

    def stop(self, outcome: Outcome) -> None:
        """Kill it and record this outcome; only the first call counts."""
        if not self.stopped.done():
            self.stopped.set_result(outcome)

    def cancel(self) -> None:
        """Stop it for the orchestrator, which sees it as canceled from now on."""
        self.stop(canceled())
        if self.is_canceled:
            self._records.update(replace(self.record, status="canceled"))

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Kill it `DEADLINE_SLACK` after its timeout, counted from acceptance, if no cancel has come by then."""
        seconds = self.assignment.timeout
        if seconds is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(seconds + DEADLINE_SLACK, self.stop, overdue(seconds))
        try:
            yield
        finally:
            timer.cancel()

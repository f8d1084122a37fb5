"""What the node remembers of an attempt, from acceptance until a day after its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from workers.node.assignment import Assignment
from workers.node.outcome import Outcome, Status

RETENTION = 24 * 3600.0  # seconds that a finished id is remembered
MAX_RECORDS = 100_000
MAX_OUTPUTS = 500  # of reported attempts, the newest
OUTPUT_KEPT = 56 * 1024  # bytes; what the orchestrator reads of an answer is 64 KiB


@dataclass(frozen=True)
class ReportAddress:
    """Where an attempt's reports go, and what they show there."""

    path: str  # of the task, at the orchestrator that the node was started with
    token: str | None = field(repr=False)
    traceparent: str | None


@dataclass(frozen=True)
class Record:
    """One attempt's id and state."""

    id: str
    task_id: str
    attempt: int
    task_type: int
    address: ReportAddress
    status: Status = "starting"
    progress: int = 0
    output: str | None = None  # JSON text
    error: str | None = None
    rejected: bool = False
    handed_back: bool = False
    overdue: bool = False
    reported: bool = False  # the orchestrator has answered the last report, or wants none
    changed_at: float = field(default_factory=time.time)  # seconds since 1970: acceptance, then the end

    @property
    def finished(self) -> bool:
        """Whether it will not run (again)."""
        return self.status not in ("starting", "processing")

    def ended(self, outcome: Outcome) -> Record:
        """Its last state; a canceled attempt owes no report."""
        return replace(
            self,
            status=outcome.status,
            progress=100 if outcome.status == "succeeded" else self.progress,
            output=outcome.output,
            error=outcome.error,
            rejected=outcome.rejected,
            handed_back=outcome.handed_back,
            overdue=outcome.overdue,
            reported=outcome.status == "canceled" and not outcome.handed_back,
            changed_at=time.time(),
        )

    def to_json(self) -> dict[str, Any]:
        """For the state directory; holds the attempt's token."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Record:
        """Raises TypeError or KeyError on what `to_json` did not make."""
        return cls(**fields | {"address": ReportAddress(**fields["address"])})


def accepted(assignment: Assignment, path: str) -> Record:
    """The record of an attempt that was just taken on."""
    address = ReportAddress(path, assignment.token, assignment.traceparent)
    return Record(assignment.id, assignment.task_id, assignment.attempt, assignment.task_type, address)


class Storage(Protocol):
    """Where records outlive the agent."""

    def append(self, record: Record) -> None:
        """Raises OSError."""

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all that is stored; what is there stays where that fails."""

    @property
    def bloated(self) -> bool:
        """Whether a rewrite is worth it."""


class Records:
    """All remembered attempts, the active ones and the finished, bounded in age and number."""

    def __init__(self, remembered: Iterable[Record] = (), storage: Storage | None = None) -> None:
        self._by_id = {record.id: record for record in remembered}
        self._storage = storage
        self._reported_outputs: deque[str] = deque()

    def find(self, id: str) -> Record | None:
        """The record of an id, if the node has ever seen it."""
        return self._by_id.get(id)

    def add(self, record: Record) -> None:
        """A new attempt; raises OSError, and forgets it, where it cannot be stored."""
        self._prune()
        self._store(record)
        self._by_id[record.id] = record

    def update(self, record: Record) -> None:
        """Something that need not survive a restart."""
        self._by_id[record.id] = record

    def finish(self, record: Record) -> None:
        """The last state of an attempt: its time of being remembered begins. Raises OSError, but knows it then."""
        self._by_id.pop(record.id, None)
        self._by_id[record.id] = record  # at the end: finished records lie in the order of their age
        self._store(record)

    def reported(self, id: str) -> None:
        """The orchestrator has answered: a large output is not needed any longer, others for a while."""
        record = replace(self._by_id[id], reported=True)
        if len((record.output or "").encode()) > OUTPUT_KEPT:
            record = replace(record, output=None)
        self._by_id[id] = record
        self._reported_outputs.append(id)
        if len(self._reported_outputs) > MAX_OUTPUTS:
            self._drop_output(self._reported_outputs.popleft())
        self._store(record)

    def unreported(self) -> list[Record]:
        """Finished attempts whose last report nobody has answered."""
        return [record for record in self._by_id.values() if record.finished and not record.reported]

    def unfinished(self) -> list[Record]:
        """Attempts without an end."""
        return [record for record in self._by_id.values() if not record.finished]

    def _drop_output(self, id: str) -> None:
        if record := self._by_id.get(id):
            self._by_id[id] = replace(record, output=None)

    def _prune(self) -> None:
        horizon = time.time() - RETENTION
        forgotten: list[str] = []
        for record in self._by_id.values():
            if record.changed_at > horizon and len(self._by_id) - len(forgotten) <= MAX_RECORDS:
                break
            if record.finished and record.reported:
                forgotten.append(record.id)
        for id in forgotten:
            del self._by_id[id]

    def _store(self, record: Record) -> None:
        if self._storage is None:
            return
        self._storage.append(record)
        if self._storage.bloated:
            self._storage.rewrite(self._by_id.values())

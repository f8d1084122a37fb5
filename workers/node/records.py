"""The node's memory of an attempt, from acceptance until a day after its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workers.node.assignment import Assignment
from workers.node.outcome import Outcome, Status

if TYPE_CHECKING:
    from workers.node.state_dir import StateDir

RETENTION = 24 * 3600.0  # seconds that a finished id is remembered
MAX_RECORDS = 100_000
OUTPUT_KEPT = 48 * 1024  # bytes of one output: what an answer carries (node protocol)
OUTPUTS_KEPT = 32 * 1024 * 1024  # bytes of all outputs of reported attempts, the newest
ERROR_ANSWERED = 500  # characters: what the orchestrator reads of the error in an answer


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

    @property
    def output_fits(self) -> bool:
        """Whether there is an output, and it is small enough for an answer."""
        return self.output is not None and len(self.output.encode()) <= OUTPUT_KEPT

    @property
    def fits_answer(self) -> bool:
        """Whether an answer can say all that the last report would say."""
        if self.status == "failed":
            return len(self.error or "") <= ERROR_ANSWERED
        return self.status == "succeeded" and self.output_fits

    def ended(self, outcome: Outcome) -> Record:
        """Its last state; a canceled attempt owes no report."""
        return replace(
            self,
            **asdict(outcome),
            progress=100 if outcome.status == "succeeded" else self.progress,
            reported=outcome.status == "canceled" and not outcome.handed_back,
            changed_at=time.time(),
        )

    def to_json(self) -> dict[str, Any]:
        """The record for the state directory; it holds the attempt's token."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Record:
        """Raises TypeError or KeyError on what `to_json` did not make."""
        return cls(**fields | {"address": ReportAddress(**fields["address"])})


def accepted(assignment: Assignment, path: str) -> Record:
    """The record of an attempt that was just taken on."""
    address = ReportAddress(path, assignment.token, assignment.traceparent)
    return Record(assignment.id, assignment.task_id, assignment.attempt, assignment.task_type, address)


class Records:
    """All remembered attempts, the active ones and the finished, bounded in age and number."""

    def __init__(self, remembered: Iterable[Record] = (), storage: StateDir | None = None) -> None:
        self._by_id = {record.id: record for record in remembered}
        self._storage = storage
        self._outputs: deque[tuple[str, int]] = deque()  # of reported attempts, the oldest first: id, bytes
        self._outputs_bytes = 0
        for record in list(self._by_id.values()):
            if record.reported:
                self._bound_outputs(record)

    def find(self, id: str) -> Record | None:
        """The record of an id, if the node has ever seen it."""
        return self._by_id.get(id)

    def add(self, record: Record) -> None:
        """A new attempt; raises OSError, and forgets it, where it cannot be stored."""
        self._prune()
        self._store(record)
        self._by_id[record.id] = record

    def update(self, record: Record) -> None:
        """Remember a state that need not survive a restart."""
        self._by_id[record.id] = record

    def finish(self, record: Record) -> None:
        """Remember the last state of an attempt, for a day from now on. Raises OSError; it is kept in memory then."""
        self._by_id.pop(record.id, None)
        self._by_id[record.id] = record  # at the end: finished records lie in the order of their age
        self._store(record)

    def reported(self, id: str) -> None:
        """Note that the orchestrator has the end. A large output is dropped; others are kept while there is room."""
        self._by_id[id] = replace(self._by_id[id], reported=True)
        self._bound_outputs(self._by_id[id])
        self._store(self._by_id[id])

    def unreported(self) -> list[Record]:
        """Finished attempts whose last report has not been answered."""
        return [record for record in self._by_id.values() if record.finished and not record.reported]

    def unfinished(self) -> list[Record]:
        """Attempts without an end."""
        return [record for record in self._by_id.values() if not record.finished]

    def _bound_outputs(self, record: Record) -> None:
        """Count the output of one more reported attempt, and drop the oldest ones beyond the room for them."""
        if not record.output_fits:
            self._drop_output(record.id)
            return
        self._outputs.append((record.id, len((record.output or "").encode())))
        self._outputs_bytes += self._outputs[-1][1]
        while self._outputs_bytes > OUTPUTS_KEPT:
            self._drop_output(self._forget_oldest_output())

    def _forget_oldest_output(self) -> str:
        id, size = self._outputs.popleft()
        self._outputs_bytes -= size
        return id

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
        while self._outputs and self._outputs[0][0] not in self._by_id:
            self._forget_oldest_output()

    def _store(self, record: Record) -> None:
        if self._storage is None:
            return
        self._storage.append(record)
        if self._storage.bloated:
            self._storage.rewrite(self._by_id.values())

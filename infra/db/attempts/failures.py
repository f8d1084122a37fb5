"""Failed attempts of a task, and whose failure each of them was: the data of `workflows.domain.fault_attribution`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.slots import capacity
from workflows.domain.attempt import COMPARED, USES_RETRY, Outcome
from workflows.domain.fault_attribution import (
    POISON_NODES,
    Failure,
    failed_alike_on,
    has_room,
)

_ENDED_WITH = (
    "SELECT gpu_id, outcome, reason FROM attempts WHERE task_id = %(task_id)s AND outcome = ANY (%(outcomes)s)"
    " ORDER BY attempt"
)


@dataclass(frozen=True)
class Suspects:
    """Nodes to judge after a task ended: it was poison (`poisoned`), or another node completed it (`outdone`)."""

    poisoned: list[str]
    outdone: list[str]


class _End(NamedTuple):
    gpu_id: str
    outcome: str
    reason: str | None

    @property
    def failure(self) -> Failure:
        return Failure(self.gpu_id, Outcome(self.outcome), self.reason)


async def failures(connection: Connection, task_id: str) -> list[Failure]:
    """How and where a task has failed so far, in order."""
    rows = await connection.all(_End, _ENDED_WITH, {"task_id": task_id, "outcomes": list(USES_RETRY)})
    return [row.failure for row in rows]


async def suspects(connection: Connection, task_id: str) -> Suspects:
    """Nodes to re-evaluate after a task ended; empty if no attempt failed."""
    rows = await connection.all(_End, _ENDED_WITH, {"task_id": task_id, "outcomes": list(COMPARED)})
    winner = next((row.gpu_id for row in rows if row.outcome == Outcome.SUCCEEDED), None)
    if winner is not None:
        return Suspects([], sorted({row.gpu_id for row in rows} - {winner}))
    failed = [row.failure for row in rows if row.outcome in USES_RETRY]
    alike = failed_alike_on(failed, failed[-1]) if failed else set()
    return Suspects(sorted(alike) if len(alike) >= POISON_NODES else [], [])


async def limit_has_room(connection: Connection, task_type: int, timeout_ms: int) -> bool:
    """Whether a task's own limit leaves room for the usual work of its type."""
    usual = await capacity.usual_durations(connection, [task_type])
    return has_room(timeout_ms, usual.get(task_type))

"""The failures of the last day, and how their tasks went on: the data of verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection, listed
from workflows.domain.attempt import COMPARED, Outcome
from workflows.domain.fault_attribution import Failure, Way

WITHIN_H = 24
MOST = 2_000
"""Failures that are read: the latest ones."""

_FAILED = f"""
    SELECT a.task_id, a.gpu_id, a.outcome, a.reason, a.blamed AS attributed, a.closed_at,
           t.task_type, t.status, t.gpu_id AS ended_on
      FROM (SELECT * FROM attempts
             WHERE outcome IN ({listed(COMPARED - {Outcome.SUCCEEDED})})
               AND closed_at >= clock_timestamp() - interval '{WITHIN_H} h'
             ORDER BY closed_at DESC LIMIT {MOST}) a
     CROSS JOIN LATERAL (  -- else the planner reads all tasks
           SELECT task_type, status, gpu_id FROM tasks t WHERE t.task_id = a.task_id OFFSET 0) t
     ORDER BY a.closed_at DESC
    """


@dataclass(frozen=True)
class FailedAttempt:
    """A failure. `attributed`: it counts against its node; `status`, `ended_on`: of the task now."""

    task_id: str
    gpu_id: str
    outcome: str
    reason: str | None
    attributed: bool
    closed_at: datetime
    task_type: int
    status: str
    ended_on: str | None

    @property
    def way(self) -> Way:
        """The key that it shares with like failures."""
        return Failure(self.gpu_id, Outcome(self.outcome), self.reason).way


async def read(connection: Connection) -> list[FailedAttempt]:
    """The failures of the last day, the latest first."""
    return await connection.all(FailedAttempt, _FAILED)

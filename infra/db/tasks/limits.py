"""A task's own limits: it expires if it has not started by `expires_at`, and ends by `deadline` (ADR 0037)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db import clock
from infra.db.connection import Connection
from workflows.domain.errors import DeadlinePassed

NOW = "statement_timestamp()"
"""One moment for a whole statement: a claim is stamped with the moment at which its task was in time."""


def in_time(task: str) -> str:
    """Whether the task may start: neither limit has passed."""
    return f"COALESCE(LEAST({task}.expires_at, {task}.deadline) > {NOW}, true)"


def passed(task: str) -> str:
    """The limit that has passed, as the reason for which the task ends; null if none has. Only QUEUED tasks expire."""
    return (
        f"CASE WHEN {task}.status = 'QUEUED' AND {task}.expires_at <= {NOW}"
        f" AND {task}.expires_at <= COALESCE({task}.deadline, 'infinity') THEN 'EXPIRED'"
        f" WHEN {task}.completed_at IS NULL AND {task}.deadline <= {NOW} THEN 'DEADLINE' END"
    )


def expires_within(task: str, seconds: float) -> str:
    """Whether the task expires that soon, unless it starts."""
    return f"COALESCE({task}.expires_at <= {NOW} + interval '{seconds:g} s', false)"


# Each branch reads one index, however many tasks have limits.
_DUE = f"""
    SELECT t.task_id, t.waiting_since IS NOT NULL AS waits, {passed("t")} AS reason
      FROM tasks t JOIN (
           (SELECT e.task_id FROM tasks e WHERE e.status = 'QUEUED' AND e.expires_at <= {NOW}
             ORDER BY e.expires_at LIMIT %(limit)s)
            UNION
           (SELECT d.task_id FROM tasks d WHERE d.completed_at IS NULL AND d.deadline <= {NOW}
             ORDER BY d.deadline LIMIT %(limit)s)) due USING (task_id)
       FOR UPDATE OF t SKIP LOCKED
    """


@dataclass(frozen=True)
class TaskPastLimit:
    """A task that is past a limit; `waits`: for a slot, so no attempt of it is open."""

    task_id: str
    waits: bool
    reason: str


_OF_NEW = f"""
    SELECT {clock.NOW} + make_interval(secs => CAST(%(expires_in_s)s AS float)) AS expires_at,
           COALESCE(CAST(%(deadline)s AS timestamptz) <= {clock.NOW}, false) AS is_past
    """


@dataclass(frozen=True)
class _OfNew:
    expires_at: datetime | None
    is_past: bool  # the deadline


async def expiry(connection: Connection, expires_in_ms: int | None, deadline: datetime | None) -> datetime | None:
    """The expiry of a new task, by the database's clock. Raises DeadlinePassed."""
    if expires_in_ms is None and deadline is None:
        return None
    values = {"expires_in_s": None if expires_in_ms is None else expires_in_ms / 1000, "deadline": deadline}
    found = await connection.one(_OfNew, _OF_NEW, values)
    if found.is_past:
        raise DeadlinePassed
    return found.expires_at


async def due(connection: Connection, limit: int) -> list[TaskPastLimit]:
    """The tasks that are past a limit, at most `limit` for each of the two. Those that somebody holds come later."""
    return await connection.all(TaskPastLimit, _DUE, {"limit": limit})

"""A task's timeline: its transitions and notes, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.db.connection import Connection, columns
from infra.db.tasks.transitions import Cause

ADD = "INSERT INTO task_events (task_id, seq, to_status, actor) SELECT task_id, 1, 'QUEUED', %(actor)s FROM created"
"""Part of the statement that creates a task."""


@dataclass(frozen=True)
class Event:
    """An entry of a timeline."""

    seq: int
    from_status: str | None
    to_status: str
    attempt: int | None
    gpu_id: str | None
    actor: str
    reason: str | None
    at: datetime


_EVENTS = (
    f"SELECT {columns(Event)} FROM task_events WHERE task_id = %(task_id)s"
    " ORDER BY seq LIMIT %(limit)s OFFSET %(offset)s"
)


async def events(connection: Connection, task_id: str, *, limit: int, offset: int) -> list[Event]:
    """A page of the task's timeline, in order."""
    return await connection.all(Event, _EVENTS, {"task_id": task_id, "limit": limit, "offset": offset})


_NOTE = """
    WITH noted AS (
        UPDATE tasks SET event_seq = event_seq + 1
         WHERE task_id = %(task_id)s AND completed_at IS NULL
           AND event_seq = COALESCE(CAST(%(event_seq)s AS integer), event_seq)
     RETURNING task_id, event_seq, status)
    INSERT INTO task_events (task_id, seq, from_status, to_status, attempt, gpu_id, actor, reason)
    SELECT task_id, event_seq, status, status, %(attempt)s, %(gpu_id)s, %(actor)s, %(reason)s FROM noted
    """


async def note(connection: Connection, cause: Cause, event_seq: int | None = None) -> bool:
    """Add an entry from the task's status to the same one: a repair that moves no status.

    Returns False, and writes nothing, if the task has ended, or has got another entry since `event_seq` was read.
    """
    return await connection.execute(_NOTE, cause | {"event_seq": event_seq}) == 1

"""What fell between the database and the engine: found here, mended by signals and starts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

AnyRow = Row[tuple[object, ...]]

_NOT_STARTED = text(
    "SELECT task_id, task_type, user_id, app, priority, timeout_ms, traceparent FROM tasks"
    " WHERE engine_started_at IS NULL AND created_at < clock_timestamp() - make_interval(secs => :age)"
    " ORDER BY created_at LIMIT 500"
)
_UNCOLLECTED = text(
    "SELECT task_id, attempt FROM attempts WHERE closed_at < clock_timestamp() - make_interval(secs => :age)"
    " AND collected_at IS NULL ORDER BY closed_at LIMIT 500"
)
_UNDISPATCHED = text(
    "SELECT task_id, attempt, gpu_id FROM attempts WHERE closed_at IS NULL AND accepted_at IS NULL"
    " AND claimed_at < clock_timestamp() - make_interval(secs => :age) ORDER BY claimed_at LIMIT 500"
)
_EXPIRED = text(
    """
    SELECT t.task_id, t.task_type, t.user_id, t.app, t.priority, t.timeout_ms, t.traceparent
      FROM attempts a JOIN tasks t USING (task_id)
     WHERE a.closed_at IS NULL
       AND a.claimed_at < clock_timestamp() - make_interval(secs => :age + t.timeout_ms / 1000.0) LIMIT 500
    """
)
_UNATTENDED = text(
    "SELECT DISTINCT g.gpu_id, g.epoch FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id AND a.closed_at IS NULL"
    " WHERE g.status = 'FAULTY' OR g.gone_at IS NOT NULL"
)


async def not_started(connection: AsyncConnection, age_s: float) -> Sequence[AnyRow]:
    """Rows older than `age_s` whose workflow has never run."""
    return (await connection.execute(_NOT_STARTED, {"age": age_s})).all()


async def expired(connection: AsyncConnection, age_s: float) -> Sequence[AnyRow]:
    """Tasks whose open attempt is past its timeout by `age_s`: their workflow does not run any more."""
    return (await connection.execute(_EXPIRED, {"age": age_s})).all()


async def uncollected(connection: AsyncConnection, age_s: float) -> Sequence[AnyRow]:
    """Attempts closed for `age_s` of which their workflow has not taken note."""
    return (await connection.execute(_UNCOLLECTED, {"age": age_s})).all()


async def undispatched(connection: AsyncConnection, age_s: float) -> Sequence[AnyRow]:
    """Attempts granted `age_s` ago that no node has accepted."""
    return (await connection.execute(_UNDISPATCHED, {"age": age_s})).all()


async def unattended(connection: AsyncConnection) -> Sequence[AnyRow]:
    """Faulty or gone nodes that still hold open attempts."""
    return (await connection.execute(_UNATTENDED)).all()

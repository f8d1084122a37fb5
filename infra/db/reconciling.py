"""What fell between the database and the engine: found here, mended by signals and starts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

AnyRow = Row[tuple[object, ...]]

_INPUT = "t.task_id, t.task_type, t.user_id, t.app, t.priority, t.timeout_ms, t.traceparent"
_NOT_STARTED = text(
    f"SELECT {_INPUT} FROM tasks t"
    " WHERE t.engine_started_at IS NULL AND t.created_at < clock_timestamp() - make_interval(secs => :age)"
    " ORDER BY t.created_at LIMIT 500"
)
_UNCOLLECTED = text(
    f"SELECT a.attempt, a.gpu_id, {_INPUT} FROM attempts a JOIN tasks t USING (task_id)"
    " WHERE a.closed_at < clock_timestamp() - make_interval(secs => :age) AND a.collected_at IS NULL"
    " AND t.completed_at IS NULL ORDER BY a.closed_at LIMIT 500"
)
_UNDISPATCHED = text(
    f"SELECT a.attempt, a.gpu_id, {_INPUT} FROM attempts a JOIN tasks t USING (task_id)"
    " WHERE a.closed_at IS NULL AND a.accepted_at IS NULL"
    " AND a.claimed_at < clock_timestamp() - make_interval(secs => :age) ORDER BY a.claimed_at LIMIT 500"
)
_EXPIRED = text(
    f"""
    SELECT {_INPUT}
      FROM attempts a JOIN tasks t USING (task_id)
     WHERE a.closed_at IS NULL
       AND a.claimed_at < clock_timestamp() - make_interval(secs => :age + t.timeout_ms / 1000.0) LIMIT 500
    """
)
_UNATTENDED = text(
    """
    SELECT g.gpu_id, g.epoch FROM gpus g
     WHERE g.gone_at IS NULL AND (g.attended_epoch, g.attended_status) IS DISTINCT FROM (g.epoch, g.status)
       AND GREATEST(g.status_since, g.registered_at) < clock_timestamp() - make_interval(secs => :age)
     UNION
    SELECT g.gpu_id, g.epoch FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id AND a.closed_at IS NULL
     WHERE g.status = 'FAULTY' OR g.gone_at IS NOT NULL
     LIMIT 500
    """
)
_UNSERVED = text(
    """
    SELECT types.task_type, first.task_id
      FROM (SELECT DISTINCT split_part(key, ' ', 1)::bigint AS task_type FROM counters
             WHERE counter = 'tasks' AND key LIKE '% QUEUED' AND n > 0) types
     CROSS JOIN LATERAL (
           SELECT t.task_id FROM tasks t WHERE t.task_type = types.task_type AND t.waiting_since IS NOT NULL
            ORDER BY t.queue_class DESC, t.queue_rank, t.display_id LIMIT 1) first
     WHERE NOT EXISTS (SELECT FROM gpus g WHERE g.gone_at IS NULL AND g.task_types @> ARRAY[types.task_type])
    """
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


async def unattended(connection: AsyncConnection, age_s: float) -> Sequence[AnyRow]:
    """Nodes whose state their workflow has not seen for `age_s`, and faulty or gone ones that hold open attempts."""
    return (await connection.execute(_UNATTENDED, {"age": age_s})).all()


async def unserved(connection: AsyncConnection) -> Sequence[AnyRow]:
    """(task_type, task_id of the first in the queue) of the types that wait and that no registered node supports."""
    return (await connection.execute(_UNSERVED)).all()

"""Claiming slots: a waiting task looks for a slot, and a freed slot looks for a waiting task.

No wake-up is lost, by construction. A task that misses does so under its type's exclusive lock,
having looked once more; whoever frees capacity holds the same lock shared from before it frees
until it has looked for a waiting task and committed. So of a miss and a release one sees the other.
A slot can't be claimed twice: every claim inserts its attempt while it holds the node's row, and a
partial unique index on (node, slot) stands behind that.

Lock order everywhere: type lock, node row, attempt row, task row.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows.domain.task import TERMINAL, TaskStatus
from workflows.messages import Grant

_TYPE_LOCK = 7101  # first key of the advisory locks of task types

_TAKE_NOTE = text(
    """
    UPDATE tasks SET engine_started_at = COALESCE(engine_started_at, clock_timestamp())
     WHERE task_id = :task_id
    RETURNING status, task_type, queue_class, failed_on, attempts,
              (SELECT attempt FROM attempts a WHERE a.task_id = :task_id AND closed_at IS NULL) AS open_attempt,
              (SELECT gpu_id FROM attempts a WHERE a.task_id = :task_id AND closed_at IS NULL) AS open_gpu
    """
)

# A node that may take the task, the least loaded first; among equals the one with fewer recent failures.
_CANDIDATE = """
    SELECT g.gpu_id, g.epoch, g.ip, g.port, g.max_concurrent_tasks, used.slots
      FROM gpus g
     CROSS JOIN LATERAL (
           SELECT COALESCE(array_agg(a.slot), '{}') AS slots, count(*) AS n
             FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL) used
     WHERE g.task_types @> ARRAY[CAST(:task_type AS bigint)]
       AND g.status = 'ACTIVE' AND g.gone_at IS NULL
       AND (g.not_before IS NULL OR g.not_before <= clock_timestamp())
       AND used.n < g.max_concurrent_tasks
       AND (g.priority_queue = 'NORMAL' OR :queue_class > 0 OR NOT :strict AND NOT EXISTS (
            SELECT FROM tasks v WHERE v.task_type = ANY (g.task_types) AND v.waiting_since IS NOT NULL
                              AND v.queue_class > 0))
     ORDER BY g.gpu_id = ANY (:failed_on), used.n::float / g.max_concurrent_tasks, g.task_failure_count, random()
     LIMIT 1 FOR UPDATE OF g"""

_INSERT = """
    INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port)
    SELECT :task_id, :attempt, c.gpu_id, c.epoch,
           (SELECT min(s) FROM generate_series(1, c.max_concurrent_tasks) s WHERE s <> ALL (c.slots)),
           :token, c.ip, c.port
      FROM candidate c
        ON CONFLICT DO NOTHING
    RETURNING attempt, gpu_id"""

_CLAIM = """
    WITH candidate AS ({candidate}), claimed AS ({insert})
    UPDATE tasks SET attempts = claimed.attempt, waiting_since = NULL
      FROM claimed WHERE task_id = :task_id
    RETURNING claimed.attempt, claimed.gpu_id"""

_CLAIM_FREE = text(_CLAIM.format(candidate=_CANDIDATE + " SKIP LOCKED", insert=_INSERT))
_LOCK_CANDIDATE = text(_CANDIDATE)
_CLAIM_LOCKED = text(
    _CLAIM.format(
        candidate="""
    SELECT g.gpu_id, g.epoch, g.ip, g.port, g.max_concurrent_tasks, used.slots
      FROM gpus g
     CROSS JOIN LATERAL (
           SELECT COALESCE(array_agg(a.slot), '{}') AS slots, count(*) AS n
             FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL) used
     WHERE g.gpu_id = :gpu_id AND g.status = 'ACTIVE' AND g.gone_at IS NULL
       AND used.n < g.max_concurrent_tasks""",
        insert=_INSERT,
    )
)
_WAIT = text("UPDATE tasks SET waiting_since = COALESCE(waiting_since, clock_timestamp()) WHERE task_id = :task_id")
_LOCK_TYPE = text("SELECT pg_advisory_xact_lock(:lock, hashint8(:task_type))")
_SHARE_TYPES = text(
    """
    SELECT pg_advisory_xact_lock_shared(:lock, h)
      FROM (SELECT DISTINCT hashint8(t) AS h FROM gpus, unnest(task_types) t WHERE gpu_id = :gpu_id ORDER BY 1) types
    """
)

_SHARE_LISTED = text(
    """
    SELECT pg_advisory_xact_lock_shared(:lock, h)
      FROM (SELECT DISTINCT hashint8(t) AS h FROM unnest(CAST(:task_types AS bigint[])) t ORDER BY 1) types
    """
)

# The best waiting task that the node may run. Each type's head is read from the queue's index, so the
# cost does not depend on how many wait; only the chosen row is locked.
_BEST_WAITING = text(
    """
    SELECT t.task_id, t.attempts
      FROM tasks t
     WHERE t.task_id IN (
           SELECT head.task_id
             FROM unnest(CAST(:task_types AS bigint[])) AS types(task_type)
            CROSS JOIN LATERAL (
                  SELECT q.task_id FROM tasks q
                   WHERE q.task_type = types.task_type AND q.waiting_since IS NOT NULL
                     AND (q.queue_class > 0 OR :serves_normal)
                     AND NOT (:gpu_id = ANY (q.failed_on) AND EXISTS (
                         SELECT FROM gpus o WHERE o.status = 'ACTIVE' AND o.gone_at IS NULL
                            AND q.task_type = ANY (o.task_types) AND o.gpu_id <> ALL (q.failed_on)))
                   ORDER BY q.queue_class DESC, q.queue_rank, q.display_id LIMIT 16) head)
       AND t.waiting_since IS NOT NULL
     ORDER BY t.queue_class DESC, t.queue_rank, t.display_id
     LIMIT 1 FOR UPDATE SKIP LOCKED
    """
)
_NODE_CAPACITY = text(
    """
    SELECT g.task_types, g.priority_queue,
           CASE WHEN g.status = 'ACTIVE' AND g.gone_at IS NULL
                 AND (g.not_before IS NULL OR g.not_before <= clock_timestamp())
                THEN g.max_concurrent_tasks - (
                     SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL)
                ELSE 0 END AS free
      FROM gpus g WHERE g.gpu_id = :gpu_id FOR UPDATE
    """
)


@dataclass(frozen=True)
class Granted:
    """A slot handed to a waiting task, to be signalled after the commit."""

    task_id: str
    grant: Grant


@dataclass(frozen=True)
class SlotRequest:
    """What a task's row says about its claim."""

    status: TaskStatus
    task_type: int
    queue_class: int
    failed_on: list[str]
    next_attempt: int
    open: Grant | None


def new_token() -> str:
    """An attempt token: opaque, names exactly one attempt, can't be guessed."""
    return secrets.token_urlsafe(24)


async def take_note(connection: AsyncConnection, task_id: str) -> SlotRequest | None:
    """Lock the task's row and mark that its workflow runs; None where there is no such task."""
    row = (await connection.execute(_TAKE_NOTE, {"task_id": task_id})).one_or_none()
    if row is None:
        return None
    found = Grant(row.open_attempt, row.open_gpu) if row.open_attempt is not None else None
    return SlotRequest(TaskStatus(row.status), row.task_type, row.queue_class, row.failed_on, row.attempts + 1, found)


async def claim(connection: AsyncConnection, task_id: str, *, strict_vip: bool) -> Grant | None:
    """Claim the best free slot for a task, or mark it as waiting. Repeating it returns the open grant.

    None also where the task is unknown or has ended.
    """
    request = await take_note(connection, task_id)
    if request is None or request.status in TERMINAL:
        return None
    if request.open is not None:
        return request.open
    values = {
        "task_id": task_id,
        "task_type": request.task_type,
        "queue_class": request.queue_class,
        "failed_on": request.failed_on,
        "attempt": request.next_attempt,
        "token": new_token(),
        "strict": strict_vip,
    }
    row = (await connection.execute(_CLAIM_FREE, values)).one_or_none()
    if row is not None:
        return Grant(row.attempt, row.gpu_id)
    return await _claim_or_wait(connection, values)


async def _claim_or_wait(connection: AsyncConnection, values: dict[str, object]) -> Grant | None:
    """Look once more under the type's lock, waiting for nodes that others hold; then join the queue."""
    await connection.execute(_LOCK_TYPE, {"lock": _TYPE_LOCK, "task_type": values["task_type"]})
    while (node := (await connection.execute(_LOCK_CANDIDATE, values)).one_or_none()) is not None:
        row = (await connection.execute(_CLAIM_LOCKED, values | {"gpu_id": node.gpu_id})).one_or_none()
        if row is not None:
            return Grant(row.attempt, row.gpu_id)
    await connection.execute(_WAIT, {"task_id": values["task_id"]})
    return None


async def open_release(connection: AsyncConnection, gpu_id: str) -> None:
    """Must come first in every transaction that frees capacity of a node (see the module's text)."""
    await connection.execute(_SHARE_TYPES, {"lock": _TYPE_LOCK, "gpu_id": gpu_id})


async def lock_types(connection: AsyncConnection, task_types: list[int]) -> None:
    """The same as `open_release` for a node that has no row yet."""
    await connection.execute(_SHARE_LISTED, {"lock": _TYPE_LOCK, "task_types": task_types})


async def hand_over(connection: AsyncConnection, gpu_id: str, *, strict_vip: bool) -> list[Granted]:
    """Give each free slot of a node to the best waiting task. The caller has called `open_release` first."""
    node = (await connection.execute(_NODE_CAPACITY, {"gpu_id": gpu_id})).one_or_none()
    granted: list[Granted] = []
    if node is None:
        return granted
    query = {
        "gpu_id": gpu_id,
        "task_types": node.task_types,
        "serves_normal": node.priority_queue == "NORMAL" or not strict_vip,
    }
    while len(granted) < node.free:
        best = (await connection.execute(_BEST_WAITING, query)).one_or_none()
        if best is None:
            break
        values = {"task_id": best.task_id, "attempt": best.attempts + 1, "gpu_id": gpu_id, "token": new_token()}
        row = (await connection.execute(_CLAIM_LOCKED, values)).one()
        granted.append(Granted(best.task_id, Grant(row.attempt, row.gpu_id)))
    return granted

"""Handing a node's free slots to the best waiting tasks, in the transaction that frees them (see `claims`)."""

from __future__ import annotations

import secrets

from sqlalchemy import text

from infra.db import clock
from infra.db.connection import Connection
from infra.db.wakeups import Granted
from workflows.messages import Grant, TaskInput

AVOID_S = 30.0
"""So long a waiting task leaves a node alone on which it has failed, while another one is alive."""

# One slot of a node, whose row the caller has locked in a statement before: so this one counts every claim committed
# before. Each type's head is read from the queue's index, so the cost does not depend on how many wait; only the
# chosen row is locked.
_HAND_OVER = text(
    f"""
    WITH node AS (
        SELECT g.*, g.max_concurrent_tasks - (
               SELECT count(*) FROM attempts a WHERE a.gpu_id = g.gpu_id AND a.closed_at IS NULL) AS free
          FROM gpus g
         WHERE g.gpu_id = :gpu_id AND g.status = 'ACTIVE' AND g.gone_at IS NULL
           AND NOT {clock.rests("g.not_before")}),
    best AS (
        SELECT t.task_id, t.attempts
          FROM tasks t
         WHERE t.task_id IN (
               SELECT head.task_id
                 FROM node CROSS JOIN unnest(node.task_types) AS types(task_type)
                CROSS JOIN LATERAL (
                      SELECT q.task_id FROM tasks q
                       WHERE q.task_type = types.task_type AND q.waiting_since IS NOT NULL
                         AND (node.priority_queue = 'NORMAL' OR NOT :strict
                              OR q.queue_class > 0 AND q.promoted_at IS NULL)
                         AND NOT (node.gpu_id = ANY (q.failed_on)
                             AND {clock.recent("q.waiting_since", clock.seconds("avoid"))} AND EXISTS (
                             SELECT FROM gpus o WHERE o.status = 'ACTIVE' AND o.gone_at IS NULL
                                AND o.task_types @> ARRAY[q.task_type] AND o.gpu_id <> ALL (q.failed_on)
                                AND (o.priority_queue = 'NORMAL' OR NOT :strict
                                     OR q.queue_class > 0 AND q.promoted_at IS NULL)))
                       ORDER BY q.queue_class DESC, q.queue_rank, q.display_id LIMIT 16) head
                WHERE node.free > 0)
           AND t.waiting_since IS NOT NULL
         ORDER BY t.queue_class DESC, t.queue_rank, t.display_id
         LIMIT 1 FOR UPDATE SKIP LOCKED),
    claimed AS (
        INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port)
        SELECT best.task_id, best.attempts + 1, node.gpu_id, node.epoch,
               (SELECT min(s) FROM generate_series(1, node.max_concurrent_tasks) s
                 WHERE s NOT IN (SELECT slot FROM attempts o WHERE o.gpu_id = node.gpu_id AND o.closed_at IS NULL)),
               :token, node.ip, node.port
          FROM node, best
     RETURNING task_id, attempt)
    UPDATE tasks t SET attempts = claimed.attempt, waiting_since = NULL,
           engine_started_at = CASE WHEN t.task_id = :asking THEN COALESCE(t.engine_started_at, clock_timestamp())
                                    ELSE t.engine_started_at END
      FROM claimed, node
     WHERE t.task_id = claimed.task_id
 RETURNING t.task_id, t.attempts AS attempt, node.free - 1 AS free, t.task_type, t.user_id, t.app, t.priority,
           t.timeout_ms, t.engine_started_at IS NULL AS delayed, t.traceparent,
           EXISTS (
               SELECT FROM unnest(node.task_types) AS types(task_type)
                 JOIN tasks o ON o.task_type = types.task_type AND o.waiting_since IS NOT NULL
                WHERE o.task_id <> t.task_id) AS others_wait
    """
)


def new_token() -> str:
    """An attempt token: opaque, names exactly one attempt, can't be guessed."""
    return secrets.token_urlsafe(24)


async def hand_over(
    connection: Connection, gpu_id: str, *, strict_vip: bool, asking: str | None = None
) -> list[Granted]:
    """Give each free slot of a node to the best waiting task; `asking` is the task on whose behalf it is done.

    The caller holds the node's row, and where this follows a release it has called `open_release` first.
    """
    query = {"gpu_id": gpu_id, "strict": strict_vip, "avoid": AVOID_S, "asking": asking}
    granted: list[Granted] = []
    while (row := (await connection.execute(_HAND_OVER, query | {"token": new_token()})).one_or_none()) is not None:
        delayed = TaskInput.of(row, waits=True) if row.delayed else None
        granted.append(Granted(row.task_id, Grant(row.attempt, gpu_id), delayed, row.traceparent))
        if row.free < 1 or not row.others_wait:
            break
    return granted

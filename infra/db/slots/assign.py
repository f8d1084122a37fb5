"""Assigning a node's free slots to the best waiting tasks, in the transaction that frees them."""

from __future__ import annotations

from secrets import token_urlsafe
from typing import NamedTuple

from infra.db import clock, holding
from infra.db.connection import Connection
from infra.db.locks import Release
from infra.db.queue import order
from infra.db.slots import eligibility
from infra.db.tasks import limits
from workflows.messages import Grant
from workflows.notifications import Granted

AVOID_S = 30.0
"""Seconds for which a waiting task avoids a node on which it has failed, while another one could take it."""
PROBED = 1000
"""How many waiting tasks a node that runs probes looks at for one of another flow than the last failure's."""

# One slot of a node, whose row the caller has locked in a statement before: so this one counts every claim committed
# before. Each type's head is read from the queue's index, so the cost does not depend on how many wait; only the
# chosen row is locked.
_TASK = eligibility.Task.of_row("q")
_TAKES = f"""q.task_type = types.task_type AND q.waiting_since IS NOT NULL AND {eligibility.serves("node", _TASK)}
              AND {limits.in_time("q")}
              AND NOT {eligibility.barred("node", _TASK)}
              AND NOT (node.gpu_id = ANY (q.failed_on) AND {clock.recent("q.waiting_since", clock.seconds("avoid"))}
                   AND {eligibility.another_could_take(_TASK, "q.failed_on || q.barred_on")})"""
_ASSIGN = f"""
    WITH node AS (
        SELECT g.*, {eligibility.slots("g")} - {eligibility.used("g")} AS free
          FROM gpus g
         WHERE g.gpu_id = %(gpu_id)s AND {eligibility.gets_work("g")}),
    heads AS (
        SELECT head.task_id, node.rests > 0 AND head.flow = node.failed_flow AS like_failed
          FROM node CROSS JOIN unnest(node.task_types) AS types(task_type)
         CROSS JOIN LATERAL (
               (SELECT q.task_id, {order.flow("q")} AS flow FROM tasks q
                 WHERE {_TAKES} ORDER BY {order.in_order("q")} LIMIT 16)
                UNION ALL
               (SELECT o.task_id, o.flow FROM (
                       SELECT q.task_id, {order.flow("q")} AS flow FROM tasks q
                        WHERE {_TAKES} ORDER BY {order.in_order("q")}
                        LIMIT CASE WHEN node.rests > 0 THEN {PROBED} / cardinality(node.task_types) ELSE 0 END) o
                 WHERE o.flow IS DISTINCT FROM node.failed_flow LIMIT 1)) head
         WHERE node.free > 0),
    best AS (
        SELECT t.task_id, t.attempts
          FROM tasks t JOIN heads USING (task_id)
         WHERE t.waiting_since IS NOT NULL
         ORDER BY heads.like_failed, {order.in_order("t")}
         LIMIT 1 FOR UPDATE OF t SKIP LOCKED),
    claimed AS (
        INSERT INTO attempts (task_id, attempt, gpu_id, gpu_epoch, slot, token, ip, port, claimed_at)
        SELECT best.task_id, best.attempts + 1, node.gpu_id, node.epoch,
               (SELECT min(s) FROM generate_series(1, node.max_concurrent_tasks) s
                 WHERE s NOT IN (SELECT slot FROM attempts o WHERE o.gpu_id = node.gpu_id AND {holding.holds("o")})),
               %(token)s, node.ip, node.port, {limits.NOW}
          FROM node, best
     RETURNING task_id, attempt)
    UPDATE tasks t SET attempts = claimed.attempt, waiting_since = NULL
      FROM claimed, node
     WHERE t.task_id = claimed.task_id
 RETURNING t.task_id, t.attempts AS attempt, node.free - 1 AS free, t.task_type, t.user_id, t.app, t.priority,
           t.timeout_ms, t.traceparent,
           EXISTS (
               SELECT FROM unnest(node.task_types) AS types(task_type)
                 JOIN tasks o ON o.task_type = types.task_type AND o.waiting_since IS NOT NULL
                WHERE o.task_id <> t.task_id) AS others_wait
    """


class _Assigned(NamedTuple):
    task_id: str
    attempt: int
    free: int
    """The slots that are left."""
    task_type: int
    user_id: str
    app: str
    priority: int
    timeout_ms: int
    traceparent: str | None
    others_wait: bool


async def assign(connection: Connection, gpu_id: str) -> list[Granted]:
    """Give each free slot of a node to the best waiting task.

    The caller holds the node's row. After a release: `assign_released`.
    """
    query = {"gpu_id": gpu_id, "strict": connection.policy.vip_nodes_strict, "avoid": AVOID_S}
    granted: list[Granted] = []
    while (row := await connection.one_or_none(_Assigned, _ASSIGN, query | {"token": token_urlsafe(24)})) is not None:
        granted.append(Granted.of(row, Grant(row.attempt, gpu_id)))
        if row.free < 1 or not row.others_wait:
            break
    return granted


async def assign_released(connection: Connection, release: Release) -> list[Granted]:
    """Assign the free slots of a node whose capacity was freed."""
    return await assign(connection, release.gpu_id)

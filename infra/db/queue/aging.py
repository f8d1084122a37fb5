"""Aging: NORMAL tasks that have waited for a long time move to the VIP class."""

from __future__ import annotations

from infra.db import clock
from infra.db.connection import Connection
from infra.db.queue import order, ranks

WEIGHT = 0.25
"""The share of all promoted tasks of a type together in the VIP class, where a flow weighs 1."""
SMALL_STEP_S = 10.0
"""A task whose waiting begins this little in the future has just begun to wait: the clock was set back a moment ago."""
# The tasks that waited too long move to the VIP class as one flow of a small weight, the oldest first. An index
# finds them, however many wait: it takes bounds that are fixed for the statement, which `clock_timestamp()` is not.
_PROMOTE = f"""
    WITH aged AS (
        SELECT task_id, task_type, {order.in_class("tasks")} FROM tasks
         WHERE task_id IN (
               (SELECT task_id FROM tasks
                 WHERE queue_class = 0 AND waiting_since < statement_timestamp() - {clock.seconds("aging")}
                 ORDER BY waiting_since LIMIT %(limit)s)
               UNION ALL
               (SELECT task_id FROM tasks
                 WHERE queue_class = 0 AND waiting_since > statement_timestamp() + interval '{SMALL_STEP_S:g} s'
                 ORDER BY waiting_since LIMIT %(limit)s))
           AND queue_class = 0 AND {clock.long_ago("waiting_since", clock.seconds("aging"))}
         ORDER BY waiting_since LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
    numbered AS (
        SELECT task_id, task_type,
               row_number() OVER (PARTITION BY task_type ORDER BY {order.in_class("aged")}) - 1 AS n
          FROM aged),
    flows AS (
        SELECT types.task_type,
               {ranks.head("types.task_type", "1")} AS head,
               {ranks.last("types.task_type", "1", "q.promoted_at IS NOT NULL")} AS last
          FROM (SELECT DISTINCT task_type FROM aged) types)
    UPDATE tasks t
       SET queue_class = 1, promoted_at = clock_timestamp(),
           queue_rank = {ranks.rank("COALESCE(f.head, 0)", "f.last", "%(spacing)s")} + n.n * %(spacing)s
      FROM numbered n JOIN flows f USING (task_type)
     WHERE t.task_id = n.task_id
    """


async def promote(connection: Connection, aging_s: float, *, limit: int) -> int:
    """Move NORMAL tasks that have waited longer than `aging_s` seconds to the VIP class. Returns their number."""
    values = {"aging": aging_s, "limit": limit, "spacing": 1 / WEIGHT}
    return await connection.execute(_PROMOTE, values)

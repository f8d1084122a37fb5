"""Groups of tasks: the place of the last waiting task of a group."""

from __future__ import annotations

from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.queue import order
from infra.db.queue.order import Ranked

# The last of each type in the order of the queue, from an index that holds only the waiting tasks of groups. Those of
# other owners' groups of the same name are skipped.
_LAST = f"""
    SELECT types.task_type, {order.columns("last")}, last.vip, last.barred_on
      FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT {order.columns("t")}, {order.vip("t")} AS vip, t.barred_on
             FROM tasks t
            WHERE t.group_id = %(group_id)s AND t.task_type = types.task_type AND t.waiting_since IS NOT NULL
              AND (CAST(%(user_id)s AS text) IS NULL OR t.user_id = %(user_id)s)
            ORDER BY {order.backwards("t")} LIMIT 1) last
    """


@dataclass(frozen=True)
class Last(Ranked):
    """The waiting task of a group and type that runs last."""

    task_type: int
    vip: bool
    barred_on: list[str]


async def last_waiting(
    connection: Connection, group_id: str, user_id: str | None, task_types: list[int]
) -> dict[int, Last]:
    """The last waiting task of each type, of one owner or of all; types of which none waits are missing."""
    values = {"group_id": group_id, "user_id": user_id, "task_types": task_types}
    return {row.task_type: row for row in await connection.all(Last, _LAST, values)}

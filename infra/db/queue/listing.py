"""The queue as people read it: waiting tasks in the order in which they will run, page after page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.queue import order
from infra.db.queue.order import HEAD, QueuePlace, Ranked
from workflows.domain import shares

MOST_OF_OWNER = 500
"""The oldest tasks that are read of an owner and type: no index has an owner's tasks in the order of the queue."""
MOST_FLOWS = 100
"""Flows of a type and class that are named."""

_COLUMNS = f"""
    t.task_id, {order.columns("t")}, t.task_type, t.user_id, t.app, t.flow, t.priority,
    {order.vip("t")} AS vip, t.promoted_at IS NOT NULL AS promoted, t.waiting_since, t.retry_count,
    t.barred_on
"""
# Each type has two stretches of an index in this order, so a page costs the same however many tasks wait.
_STRETCH = f"""
          (SELECT {_COLUMNS} FROM tasks t
            WHERE t.task_type = types.task_type AND t.waiting_since IS NOT NULL AND {{}}
            ORDER BY {order.in_order("t")} LIMIT %(limit)s)"""
_PAGE = f"""
    SELECT q.* FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL ({" UNION ALL ".join(map(_STRETCH.format, order.after("t")))}) q
     ORDER BY {order.in_order("q")} LIMIT %(limit)s
    """
_OF_OWNER = f"""
    SELECT q.* FROM unnest(CAST(%(task_types)s AS bigint[])) AS types(task_type)
     CROSS JOIN LATERAL (
           SELECT {_COLUMNS} FROM tasks t
            WHERE t.user_id = %(owner)s AND t.task_type = types.task_type AND t.status = 'QUEUED'
              AND t.waiting_since IS NOT NULL
            ORDER BY t.display_id LIMIT {MOST_OF_OWNER}) q
     WHERE {" OR ".join(order.after("q"))}
     ORDER BY {order.in_order("q")} LIMIT %(limit)s
    """
_NEXT_FLOW = f"""
    SELECT {order.flow("t")} AS flow FROM tasks t
     WHERE t.task_type = kinds.task_type AND t.queue_class = kinds.queue_class
       AND t.waiting_since IS NOT NULL AND t.promoted_at IS NULL
    """
# From one flow to the next in their index, however many tasks each has.
_FLOWS = f"""
    SELECT kinds.task_type, kinds.queue_class, found.flow
      FROM unnest(CAST(%(task_types)s AS bigint[]), CAST(%(classes)s AS integer[])) AS kinds(task_type, queue_class)
     CROSS JOIN LATERAL (
           WITH RECURSIVE flows(flow, n) AS (
               (SELECT first.flow, 1 FROM ({_NEXT_FLOW} ORDER BY 1 LIMIT 1) first)
               UNION ALL
               SELECT next.flow, n + 1 FROM flows
                CROSS JOIN LATERAL ({_NEXT_FLOW} AND {order.flow("t")} > flows.flow ORDER BY 1 LIMIT 1) next
                WHERE n < {MOST_FLOWS})
           SELECT flow FROM flows) found
    """


@dataclass(frozen=True)
class Waiting(Ranked):
    """A task that waits for a slot; `vip`: by its own priority, `promoted`: by its age."""

    task_id: str
    task_type: int
    user_id: str
    app: str
    flow: str | None
    priority: int
    vip: bool
    promoted: bool
    waiting_since: datetime
    retry_count: int
    barred_on: list[str]

    @property
    def flow_name(self) -> str:
        """The name of its flow."""
        return shares.named(self.flow, self.app)


class _Flow(NamedTuple):
    task_type: int
    queue_class: int
    flow: str


async def page(
    connection: Connection, task_types: Collection[int], after: QueuePlace = HEAD, *, limit: int
) -> list[Waiting]:
    """The next tasks of these types after a place, in the order of the queue."""
    values = {**after.__dict__, "task_types": list(task_types), "limit": limit}
    return await connection.all(Waiting, _PAGE, values)


async def page_of_owner(
    connection: Connection, owner: str, task_types: Collection[int], after: QueuePlace = HEAD, *, limit: int
) -> list[Waiting]:
    """The next tasks of one owner: of each type the oldest `MOST_OF_OWNER`."""
    values = {**after.__dict__, "task_types": list(task_types), "owner": owner, "limit": limit}
    return await connection.all(Waiting, _OF_OWNER, values)


async def flows(connection: Connection, kinds: Collection[tuple[int, int]]) -> dict[tuple[int, int], list[str]]:
    """The flows that wait for each type and class, at most `MOST_FLOWS` each."""
    values = {"task_types": [kind for kind, _ in kinds], "classes": [queue_class for _, queue_class in kinds]}
    found: dict[tuple[int, int], list[str]] = {}
    for row in await connection.all(_Flow, _FLOWS, values):
        found.setdefault((row.task_type, row.queue_class), []).append(row.flow)
    return found

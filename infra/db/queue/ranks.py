"""The rank of a task that joins the queue, which it keeps.

Within a class the flows (`workflows.domain.shares`) share by start-time fair queueing: a task's rank is its virtual
start time, the tasks of a flow lie `1 / weight` apart, and a flow that joins starts where the queue is now. So two
flows take turns however many tasks each has, and the tasks of one flow go oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.queue.order import FLOW

# Where the queue is now: the head of the type's own queue; where that is empty, the least advanced head
# among the types that share a node with it, so that types which compete keep one clock. A flow is one over all of them:
# its work has one share, however many types it is spread over.
_PLACE = f"""
    SELECT COALESCE(
           (SELECT q.queue_rank FROM tasks q
             WHERE q.task_type = %(task_type)s AND q.queue_class = %(queue_class)s AND q.waiting_since IS NOT NULL
             ORDER BY q.queue_rank LIMIT 1),
           (SELECT min(head.queue_rank)
              FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
             CROSS JOIN LATERAL (
                   SELECT q.queue_rank FROM tasks q
                    WHERE q.task_type = types.task_type AND q.queue_class = %(queue_class)s
                      AND q.waiting_since IS NOT NULL
                    ORDER BY q.queue_rank LIMIT 1) head),
           0) AS virtual_time,
           (SELECT max(last.queue_rank)
              FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
             CROSS JOIN LATERAL (
                   SELECT q.queue_rank FROM tasks q
                    WHERE q.task_type = types.task_type AND q.queue_class = %(queue_class)s
                      AND {FLOW.format(task="q")} = %(flow)s
                      AND q.waiting_since IS NOT NULL AND q.promoted_at IS NULL
                    ORDER BY q.queue_rank DESC LIMIT 1) last) AS last_of_flow,
           NOT EXISTS (
               SELECT FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
                 JOIN tasks q ON q.task_type = types.task_type AND q.waiting_since IS NOT NULL) AS alone
    """


@dataclass(frozen=True)
class Joined:
    """The place of a new task in its class; `alone` if no waiting task could go before it."""

    rank: float
    alone: bool


class _Place(NamedTuple):
    virtual_time: float
    last_of_flow: float | None
    alone: bool


def rank_of(virtual_time: float, last_of_flow: float | None, weight: float) -> float:
    """The rank of a task that joins the queue.

    `virtual_time` is the rank at the head of the queue, `last_of_flow` that of the last waiting task of the same flow.
    """
    return virtual_time if last_of_flow is None else max(virtual_time, last_of_flow + 1 / weight)


async def join(
    connection: Connection, task_type: int, queue_class: int, flow: str, weight: float, pool: list[int]
) -> Joined:
    """The place of a new task. The caller holds its flow's lock, so that no two places are equal.

    `pool` are the types that share a node with this one.
    """
    values = {"task_type": task_type, "queue_class": queue_class, "flow": flow, "pool": pool}
    row = await connection.one(_Place, _PLACE, values)
    return Joined(rank_of(row.virtual_time, row.last_of_flow, weight), row.alone)

"""The rank of a task that joins the queue, which it keeps.

Within a class the flows (`workflows.domain.shares`) share by start-time fair queueing: a task's rank is its virtual
start time, the tasks of a flow lie `1 / weight` apart, and a flow that joins starts where the queue is now. So two
flows take turns however many tasks each has, and the tasks of one flow go oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.db.connection import Connection
from infra.db.queue import order


def head(task_type: str, queue_class: str, but: str = "true") -> str:
    """The rank at the head of the queue of a type and class, as a subquery; `but`: a condition for rows `q`."""
    return _end(task_type, queue_class, but, "ASC")


def last(task_type: str, queue_class: str, of: str) -> str:
    """The rank of the last waiting task of a type and class that fits `of`, as a subquery; `of`: see `of_flow`."""
    return _end(task_type, queue_class, of, "DESC")


def of_flow(flow: str) -> str:
    """The row `q` is of a flow. Promoted tasks are one of their own."""
    return f"{order.flow('q')} = {flow} AND q.promoted_at IS NULL"


def rank(virtual_time: str, last_of_flow: str, spacing: str) -> str:
    """The rank of a task that joins where the queue is now, `spacing` after the last waiting task of its flow."""
    return f"GREATEST({virtual_time}, {last_of_flow} + {spacing})"


def _end(task_type: str, queue_class: str, fits: str, direction: str) -> str:
    return f"""(
        SELECT q.queue_rank AS rank FROM tasks q
         WHERE q.task_type = {task_type} AND q.queue_class = {queue_class} AND q.waiting_since IS NOT NULL AND {fits}
         ORDER BY q.queue_rank {direction} LIMIT 1)"""


# Where the queue is now: the head of the type's own queue; where that is empty, the least advanced head
# among the types that share a node with it, so that types which compete keep one clock. A flow is one over all of them:
# its work has one share, however many types it is spread over.
_NOW = f"""COALESCE(
           {head("%(task_type)s", "%(queue_class)s")},
           (SELECT min(head.rank)
              FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
             CROSS JOIN LATERAL {head("types.task_type", "%(queue_class)s")} head),
           0)"""
_LAST = f"""(
            SELECT max(last.rank)
              FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
             CROSS JOIN LATERAL {last("types.task_type", "%(queue_class)s", of_flow("%(flow)s"))} last)"""
_JOIN = f"""
    SELECT {rank(_NOW, _LAST, "%(spacing)s")} AS rank,
           NOT EXISTS (
               SELECT FROM unnest(CAST(%(pool)s AS bigint[])) AS types(task_type)
                 JOIN tasks q ON q.task_type = types.task_type AND q.waiting_since IS NOT NULL) AS alone
    """


@dataclass(frozen=True)
class Joined:
    """The place of a new task in its class; `alone` if no waiting task could go before it."""

    rank: float
    alone: bool


async def join(
    connection: Connection, task_type: int, queue_class: int, flow: str, weight: float, pool: list[int]
) -> Joined:
    """The place of a new task. The caller holds its flow's lock, so that no two places are equal.

    `pool` are the types that share a node with this one.
    """
    values = {"task_type": task_type, "queue_class": queue_class, "flow": flow, "pool": pool, "spacing": 1 / weight}
    return await connection.one(Joined, _JOIN, values)

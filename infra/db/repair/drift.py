"""Drift between the database and Temporal: found here, repaired by `activities.reconciler`.

Each search reads an index that holds little else. Only `next_round` goes over all unfinished tasks, a few at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from infra.db import clock
from infra.db.attempts.dispatch_request import CREDENTIAL
from infra.db.connection import Connection
from infra.db.ops import monitor_reports
from infra.db.ops.alerts import Unserved
from infra.db.queue import order
from infra.db.slots import eligibility
from infra.nodes.address import NodeAddress
from workflows.domain.system_actor import SystemActor

_ROW = "t.task_id, t.task_type, t.user_id, t.app, t.priority, t.timeout_ms, t.traceparent, t.event_seq"
# What was repaired without a visible effect is repaired again after 20 s, 40 s and so on, up to an hour: the timeline
# has an entry for each time, and a row that can't be helped must not fill it.
_LAST_REPAIR = f"max(e.at) FILTER (WHERE e.at <= {clock.NOW})"
_RESTED = f"""
    NOT EXISTS (
        SELECT FROM task_events e
         WHERE e.task_id = t.task_id AND e.actor = '{SystemActor.RECONCILER}' AND e.from_status = e.to_status
           AND e.seq > (SELECT max(last.seq) FROM task_events last WHERE last.task_id = t.task_id
                           AND last.from_status IS DISTINCT FROM last.to_status)
        HAVING {clock.recent(_LAST_REPAIR, "make_interval(secs => LEAST(10.0 * 2 ^ LEAST(count(*), 10), 3600))")})
"""
# First the tasks that do not wait for a slot, which are few; then the oldest that wait, of which there may be any
# number: at most 500 of each are read. Each row is looked up by its key: by old statistics the planner may assume that
# there are no waiting tasks.
_NOT_STARTED = f"""
    (SELECT {_ROW}, false AS waits
       FROM (SELECT * FROM tasks WHERE status = 'QUEUED' AND waiting_since IS NULL
              UNION ALL
             SELECT * FROM tasks WHERE status = 'PROCESSING') t
      CROSS JOIN LATERAL (SELECT created_at FROM outbox WHERE task_id = t.task_id LIMIT 1) o
      WHERE {clock.long_ago("o.created_at", clock.seconds("age"))} AND {_RESTED} ORDER BY o.created_at LIMIT 500)
     UNION ALL
    (SELECT {_ROW}, true
       FROM (SELECT task_id FROM outbox
              WHERE {clock.long_ago("created_at", clock.seconds("age"))} ORDER BY created_at LIMIT 500) o
      CROSS JOIN LATERAL (SELECT * FROM tasks WHERE task_id = o.task_id LIMIT 1) t
      WHERE t.waiting_since IS NOT NULL AND {_RESTED})
    """
_UNCOLLECTED = (
    f"SELECT a.attempt, a.gpu_id, {clock.age_s('a.closed_at')} AS closed_for_s,"
    f" {_ROW} FROM attempts a JOIN tasks t USING (task_id)"
    f" WHERE {clock.long_ago('a.closed_at', clock.seconds('age'))} AND a.collected_at IS NULL"
    f" AND t.completed_at IS NULL AND {_RESTED} ORDER BY a.closed_at LIMIT 500"
)
_UNDISPATCHED = (
    f"SELECT a.attempt, a.gpu_id, a.ip, a.port, {CREDENTIAL} AS secret, {_ROW}"
    "  FROM attempts a JOIN tasks t USING (task_id) JOIN gpus g ON g.gpu_id = a.gpu_id"
    " WHERE a.closed_at IS NULL AND a.accepted_at IS NULL"
    f"  AND {clock.long_ago('a.claimed_at', clock.seconds('age'))}"
    f"  AND {_RESTED} ORDER BY a.claimed_at LIMIT 100"
)
_EXPIRED = f"""
    SELECT a.attempt, a.gpu_id, a.accepted_at, a.ip, a.port, {CREDENTIAL} AS secret, {_ROW}
      FROM attempts a JOIN tasks t USING (task_id) JOIN gpus g ON g.gpu_id = a.gpu_id
     WHERE a.closed_at IS NULL
       AND COALESCE(a.accepted_at, a.claimed_at + make_interval(secs => %(delivery)s))
           < clock_timestamp() - make_interval(secs => %(age)s + t.timeout_ms / 1000.0)
       -- else nobody may have asked the node yet: the workflow begins with its grant, and no worker was there
       AND (a.accepted_at IS NOT NULL OR a.attempt > 1
            OR a.claimed_at < clock_timestamp() - make_interval(secs => %(unheard)s))
     LIMIT 500
    """
_FORGOTTEN = f"""
    SELECT NULLIF(t.attempts, 0) AS attempt, CAST(NULL AS text) AS gpu_id, {_ROW}
      FROM tasks t LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
     WHERE t.status = 'QUEUED' AND t.waiting_since IS NULL
       AND {clock.long_ago("t.updated_at", clock.seconds("age"))}
       AND (a.attempt IS NULL OR {clock.long_ago("a.closed_at", clock.seconds("age"))}
            AND {clock.long_ago("a.collected_at", clock.seconds("age"))})
       AND {_RESTED} ORDER BY t.updated_at LIMIT 500
    """
_STUCK = f"""
    SELECT {_ROW}, a.attempt, a.gpu_id
      FROM tasks t LEFT JOIN attempts a ON a.task_id = t.task_id AND a.closed_at IS NOT NULL AND a.collected_at IS NULL
     WHERE t.task_id = %(task_id)s ORDER BY a.attempt DESC LIMIT 1
    """
_ENDED = (
    f"SELECT {_ROW}, t.attempts AS attempt FROM tasks t"
    f" WHERE t.task_id = ANY(%(task_ids)s) AND {clock.long_ago('t.completed_at', clock.seconds('age'))}"
)
_SET_RIGHT = f"""
    UPDATE attempts
       SET claimed_at = LEAST(claimed_at, {clock.NOW},  -- before its node's drain, if that has begun since
                              (SELECT g.drained_at FROM gpus g WHERE g.gpu_id = attempts.gpu_id)),
           accepted_at = CASE WHEN accepted_at IS NOT NULL THEN LEAST(accepted_at, {clock.NOW}) END
     WHERE (task_id, attempt) IN (
           SELECT task_id, attempt FROM attempts
            WHERE closed_at IS NULL AND (claimed_at > {clock.NOW} OR accepted_at > {clock.NOW}) FOR UPDATE SKIP LOCKED)
    """
_UNFINISHED = f"""
    WITH idle AS MATERIALIZED (  -- few, however many wait: read from an index that holds nothing else
        SELECT * FROM tasks WHERE status = 'QUEUED' AND waiting_since IS NULL)
    SELECT {_ROW}, t.display_id, a.attempt, a.gpu_id,
           {clock.long_ago("t.updated_at", clock.seconds("age"))}
           AND (a.closed_at IS NULL OR a.collected_at IS NOT NULL) AND {_RESTED} AS doubtful
      FROM ((SELECT * FROM idle WHERE display_id > %(after)s ORDER BY display_id LIMIT %(limit)s)
            UNION ALL
            (SELECT * FROM tasks WHERE status = 'PROCESSING' AND display_id > %(after)s
              ORDER BY display_id LIMIT %(limit)s)
           ) t
      LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
     ORDER BY t.display_id LIMIT %(limit)s
    """
_UNATTENDED = f"""
    SELECT g.gpu_id, g.epoch FROM gpus g
     WHERE g.gone_at IS NULL AND (g.attended_epoch, g.attended_status) IS DISTINCT FROM (g.epoch, g.status)
       AND {clock.long_ago("GREATEST(g.status_since, g.registered_at)", clock.seconds("age"))}
     UNION
    SELECT g.gpu_id, g.epoch FROM gpus g JOIN attempts a ON a.gpu_id = g.gpu_id AND a.closed_at IS NULL
     WHERE g.status = 'FAULTY' OR g.gone_at IS NOT NULL
     LIMIT 500
    """
_REGISTERED = (
    f"SELECT gpu_id, epoch FROM gpus WHERE gone_at IS NULL AND {clock.long_ago('registered_at', clock.seconds('age'))}"
)
# The tasks of a type and class differ in nothing that decides which nodes take them, but those that aging has promoted:
# they join their new class near its head.
_FIRST = eligibility.Task.of_row("first")
MOST_UNSERVED = 500
"""Types that are checked besides those of nodes and of as many of the oldest tasks: callers may invent any number."""
_WAITING_TYPE = "SELECT t.task_type FROM tasks t WHERE t.waiting_since IS NOT NULL"
# From one type to the next in the index of the queue, however many tasks each has.
_UNSERVED = f"""
    WITH RECURSIVE waiting(task_type, n) AS (
        (SELECT first.task_type, 1 FROM ({_WAITING_TYPE} ORDER BY 1 LIMIT 1) first)
        UNION ALL
        SELECT next.task_type, n + 1 FROM waiting
         CROSS JOIN LATERAL ({_WAITING_TYPE} AND t.task_type > waiting.task_type ORDER BY 1 LIMIT 1) next
         WHERE n < {MOST_UNSERVED})
    SELECT task_type, task_id, drained, vip_only
      FROM (SELECT DISTINCT ON (first.task_type) first.task_type, first.task_id, first.created_at,
                   EXISTS (SELECT FROM gpus g WHERE g.gone_at IS NULL AND {eligibility.takes("g", _FIRST)}) AS drained,
                   EXISTS (SELECT FROM gpus g WHERE {eligibility.may_work("g")}
                              AND {eligibility.runs("g", _FIRST.task_type)}
                              AND {eligibility.vip_only("g", _FIRST)}) AS vip_only,
                   EXISTS (SELECT FROM gpus g WHERE {eligibility.runs("g", _FIRST.task_type)}) AS known
              FROM (SELECT task_type FROM waiting UNION SELECT unnest(task_types) FROM gpus UNION
                    (SELECT task_type FROM tasks WHERE status = 'QUEUED' ORDER BY display_id LIMIT {MOST_UNSERVED})
                   ) types
             CROSS JOIN (VALUES (0), (1)) AS classes(queue_class)
             CROSS JOIN LATERAL (
                   SELECT t.* FROM tasks t
                    WHERE t.task_type = types.task_type AND t.queue_class = classes.queue_class
                      AND t.waiting_since IS NOT NULL
                    ORDER BY {order.in_order("t")} LIMIT 1) first
             WHERE NOT EXISTS (SELECT FROM gpus g WHERE {eligibility.may_work("g")}
                                  AND {eligibility.takes("g", _FIRST)})
             ORDER BY first.task_type, {order.in_order("first")}) unserved
     ORDER BY known DESC, created_at, task_type
    """


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """A task to repair, with its last attempt where that has a part in it."""

    task_id: str
    task_type: int
    user_id: str
    app: str
    priority: int
    timeout_ms: int
    traceparent: str | None
    event_seq: int
    attempt: int | None = None
    gpu_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class NotStarted(Drifted):
    """A task whose start is not confirmed."""

    waits: bool


@dataclass(frozen=True, kw_only=True)
class EndedTask(Drifted):
    """A task that has ended."""

    attempt: int


@dataclass(frozen=True, kw_only=True)
class Held(Drifted):
    """A task with the attempt in question."""

    attempt: int
    gpu_id: str


@dataclass(frozen=True, kw_only=True)
class Uncollected(Held):
    """Closed, and not collected."""

    closed_for_s: float
    """Infinite if the clock was set back since."""


@dataclass(frozen=True, kw_only=True)
class HeldOnNode(Held):
    """Open, with the address of its node."""

    ip: str
    port: int
    secret: str | None

    @property
    def node(self) -> NodeAddress:
        """Where its node was when it was claimed."""
        return NodeAddress(self.ip, self.port, self.secret)


@dataclass(frozen=True, kw_only=True)
class Expired(HeldOnNode):
    """Open, and past its deadline."""

    accepted_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class _Unfinished(Drifted):
    display_id: int
    doubtful: bool


class NodeEpoch(NamedTuple):
    """A node and its registration."""

    gpu_id: str
    epoch: int


async def set_right(connection: Connection) -> None:
    """Let open attempts that began while the clock was ahead begin now: otherwise their deadlines would never come."""
    await connection.execute(_SET_RIGHT)


async def not_started(connection: Connection, age_s: float) -> list[NotStarted]:
    """Tasks that have been in the outbox for `age_s`, those that do not wait for a slot first."""
    return await connection.all(NotStarted, _NOT_STARTED, {"age": age_s})


async def expired(connection: Connection, age_s: float, delivery_s: float, unheard_s: float) -> list[Expired]:
    """Open attempts past their timeout by `age_s`, which their workflow should have ended.

    One that no node has accepted has `delivery_s` more, and a first one at least `unheard_s`.
    """
    values = {"age": age_s, "delivery": delivery_s, "unheard": unheard_s}
    return await connection.all(Expired, _EXPIRED, values)


async def uncollected(connection: Connection, age_s: float) -> list[Uncollected]:
    """Attempts closed for `age_s` that their workflow has not collected."""
    return await connection.all(Uncollected, _UNCOLLECTED, {"age": age_s})


async def undispatched(connection: Connection, age_s: float) -> list[HeldOnNode]:
    """Attempts granted `age_s` ago that no node has accepted, with the node's address."""
    return await connection.all(HeldOnNode, _UNDISPATCHED, {"age": age_s})


async def forgotten(connection: Connection, age_s: float) -> list[Drifted]:
    """Tasks QUEUED for `age_s`, longer than any pause, that neither wait for a slot nor hold one."""
    return await connection.all(Drifted, _FORGOTTEN, {"age": age_s})


async def stuck(connection: Connection, task_id: str) -> Drifted | None:
    """A task, with its attempt that is closed and not collected, where it has one."""
    return await connection.one_or_none(Drifted, _STUCK, {"task_id": task_id})


async def ended(connection: Connection, task_ids: list[str], age_s: float) -> list[EndedTask]:
    """The tasks among these that ended `age_s` ago, with the number of their last attempt."""
    return await connection.all(EndedTask, _ENDED, {"task_ids": task_ids, "age": age_s})


async def next_round(connection: Connection, age_s: float, limit: int) -> Sequence[Drifted]:
    """The next `limit` unfinished tasks that don't wait for a slot, oldest first, starting over after the last one.

    Returns the doubtful ones: nothing was written for `age_s`, and no other search here finds them.
    """
    last = await monitor_reports.read(connection, "round") or {"after": 0}
    rows = await connection.all(_Unfinished, _UNFINISHED, {"age": age_s, "after": last["after"], "limit": limit})
    await monitor_reports.keep(connection, "round", {"after": rows[-1].display_id if len(rows) == limit else 0})
    return [row for row in rows if row.doubtful]


async def unattended(connection: Connection, age_s: float) -> list[NodeEpoch]:
    """Nodes whose state their workflow has not seen for `age_s`, and faulty or gone ones that hold open attempts."""
    return await connection.all(NodeEpoch, _UNATTENDED, {"age": age_s})


async def registered(connection: Connection, age_s: float) -> list[NodeEpoch]:
    """Nodes whose last registration is older than `age_s`."""
    return await connection.all(NodeEpoch, _REGISTERED, {"age": age_s})


async def unserved(connection: Connection) -> list[Unserved]:
    """Types with waiting tasks that no registered node takes, or only draining ones.

    Types that a node supported before it left come first, since a caller may invent any number of others; then the
    oldest. Of types that no node ever supported, `MOST_UNSERVED` are looked at.
    """
    return await connection.all(Unserved, _UNSERVED, {"strict": connection.policy.vip_nodes_strict})

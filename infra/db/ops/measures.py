"""Counts of everything that has happened, for Prometheus: they never fall, even when tasks are forgotten (ADR 0046).

The leader adds up the event log, a page at a time, with the place that it has come to in the same transaction: so each
event counts exactly once, and a transition costs nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.ops import counters, event_log, monitor_reports
from infra.db.ops.kinds import OTHER
from workflows.domain.attempt import Outcome

PAGE = 2000
"""Events that one call adds up."""
MOST_TYPES = 200
"""Task types with a label of their own, in addition to those that nodes serve; callers may invent any number."""

WAITS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
CALLS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
HISTOGRAMS = {"wait": WAITS, "run": WAITS, "eta_error": WAITS, "dispatch": CALLS}
"""The upper bounds of each histogram's buckets, in seconds."""

GPU_SECONDS = {
    "useful": (Outcome.SUCCEEDED,),
    "failed": (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.REJECTED, Outcome.PROTOCOL_ERROR),
    "cancelled": (Outcome.TASK_ENDED,),
}
"""The use of an attempt's time, by its outcome; after any other outcome it is lost."""
LOST = "lost"

_LOG = f"SELECT {event_log.NAME}"
_NAME = "measures"
_KINDS = " ".join(
    f"WHEN a.outcome = '{outcome}' THEN '{kind}'" for kind, outcomes in GPU_SECONDS.items() for outcome in outcomes
)
_HAD_AT = "COALESCE(a.accepted_at, a.claimed_at)"
"""When the node had the attempt: a node that answers with the result accepts nothing before."""


def _seconds(later: str, earlier: str) -> str:
    return f"GREATEST(extract(epoch FROM {later} - {earlier}), 0)::float8"


_IS_FIRST = """NOT EXISTS (SELECT FROM task_events e
                            WHERE e.task_id = h.task_id AND e.seq < h.seq AND e.to_status = 'PROCESSING')"""
# By their keys, one by one: a join could be planned as a scan of the whole table.
_TASK = "CROSS JOIN LATERAL (SELECT o.* FROM tasks o WHERE o.task_id = h.task_id OFFSET 0) t"
_ATTEMPT = (
    "CROSS JOIN LATERAL (SELECT o.* FROM attempts o WHERE o.task_id = h.task_id AND o.attempt = h.attempt OFFSET 0) a"
)
_EVENT = "LEFT JOIN LATERAL (SELECT o.* FROM task_events o WHERE o.task_id = p.task_id AND o.seq = p.seq OFFSET 0) e"
_ADD = f"""
    WITH page AS MATERIALIZED (
        SELECT xid, id, type, task_id, data ->> 'taskType' AS task_type, CAST(data ->> 'seq' AS integer) AS seq,
               data ->> 'status' AS status, data ->> 'endReason' AS end_reason
          FROM event_log WHERE (xid, id) > (%(xid)s, %(id)s) AND xid < {event_log.DONE}
         ORDER BY xid, id LIMIT {PAGE}),
    known AS (
        SELECT DISTINCT split_part(key, ' ', 1) AS label FROM counters
         WHERE counter = 'ever:ended' OR (counter = 'ever:wait' AND key LIKE '%% sum')),
    labels AS MATERIALIZED (
        SELECT task_type,
               CASE WHEN is_named OR (SELECT count(*) FROM known)
                                     + row_number() OVER (PARTITION BY is_named ORDER BY task_type) <= %(most_types)s
                    THEN task_type ELSE '{OTHER}' END AS label
          FROM (SELECT task_type, task_type IN (SELECT label FROM known)
                       OR EXISTS (SELECT FROM gpus g WHERE g.task_types @> ARRAY[CAST(task_type AS bigint)])
                       AS is_named
                  FROM (SELECT DISTINCT task_type FROM page
                         WHERE type IN ('task.started', 'task.retried', 'task.ended')) types) named),
    happened AS MATERIALIZED (
        SELECT p.type, p.task_id, p.seq, p.status, p.end_reason, l.label, e.from_status, e.attempt
          FROM page p JOIN labels l USING (task_type)
          {_EVENT} ON true
         WHERE p.type IN ('task.started', 'task.retried', 'task.ended')),
    started AS MATERIALIZED (
        SELECT h.label, {_IS_FIRST} AS is_first, {_seconds(_HAD_AT, "t.created_at")} AS wait_s,
               NULLIF(t.estimated_wait_s, -1)::float8 AS eta_s, a.accepted_at IS NOT NULL AS is_accepted,
               {_seconds("a.accepted_at", "a.claimed_at")} AS dispatch_s
          FROM happened h {_TASK} {_ATTEMPT}
         WHERE h.type = 'task.started'),
    measured (name, label, s) AS (
        SELECT 'wait', label, wait_s FROM started WHERE is_first
        UNION ALL SELECT 'eta_error', label, abs(eta_s - wait_s) FROM started WHERE is_first AND eta_s IS NOT NULL
        UNION ALL SELECT 'dispatch', label, dispatch_s FROM started WHERE is_accepted
        UNION ALL SELECT 'run', h.label, {_seconds("t.completed_at", "t.started_at")}
                    FROM happened h {_TASK}
                   WHERE h.type = 'task.ended' AND h.status = 'COMPLETED'),
    used AS (
        SELECT CASE {_KINDS} ELSE '{LOST}' END AS kind, {_seconds("a.closed_at", _HAD_AT)} AS s
          FROM happened h {_ATTEMPT}
         WHERE h.from_status = 'PROCESSING' AND a.closed_at IS NOT NULL),
    bounds (name, bound) AS (
        SELECT * FROM unnest(CAST(%(names)s AS text[]), CAST(%(bounds)s AS float8[]))),
    found (counter, key, n) AS (
        SELECT 'ever:ended', label || ' ' || end_reason, 1 FROM happened WHERE type = 'task.ended'
        UNION ALL
        SELECT 'ever:' || name, label || ' '
               || COALESCE((SELECT min(bound) FROM bounds b WHERE b.name = m.name AND s <= bound)::text, '+Inf'), 1
          FROM measured m
        UNION ALL SELECT 'ever:' || name, label || ' sum', round(s * 1000) FROM measured
        UNION ALL SELECT 'ever:gpu_seconds', kind, round(s * 1000) FROM used),
    added AS (
        INSERT INTO counters AS c (counter, key, n)
        SELECT counter, key, sum(n)::bigint FROM found GROUP BY counter, key ORDER BY counter, key
            ON CONFLICT (counter, key) DO UPDATE SET n = c.n + excluded.n)
    SELECT xid, id FROM page ORDER BY xid DESC, id DESC LIMIT 1
    """
_NEXT = f"""
    SELECT true FROM event_log WHERE (xid, id) > (%(xid)s, %(id)s) AND xid < {event_log.DONE}
     ORDER BY xid, id LIMIT 1
    """
_BOUNDS = {
    "names": [name for name, bounds in HISTOGRAMS.items() for _ in bounds],
    "bounds": [bound for bounds in HISTOGRAMS.values() for bound in bounds],
}
_COUNTERS = [f"ever:{name}" for name in ("ended", "gpu_seconds", "deliveries", *HISTOGRAMS)]


@dataclass
class Histogram:
    """The number of values in each bucket, by its upper bound, not cumulative; and the sum of the values in seconds."""

    buckets: dict[float, int] = field(default_factory=dict)
    sum_s: float = 0.0


@dataclass
class Measures:
    """All of them, as far as the leader has added them up."""

    ended: dict[tuple[str, str], int] = field(default_factory=dict)  # by (type, endReason)
    gpu_seconds: dict[str, float] = field(default_factory=dict)  # by kind
    deliveries: dict[str, int] = field(default_factory=dict)  # by state
    histograms: dict[str, dict[str, Histogram]] = field(
        default_factory=lambda: {name: defaultdict(Histogram) for name in HISTOGRAMS}
    )  # by name and type


class _Place(NamedTuple):
    xid: int
    id: int


async def add_up(connection: Connection) -> None:
    """Add the next events up, at most PAGE. Two at once do no harm."""
    log = await connection.one(str, _LOG)
    kept = await monitor_reports.hold(connection, _NAME)
    place = {} if kept is None else kept.body
    if place.get("log") != log:  # that of another database: a restore has started another log
        place = {"xid": 0, "id": 0}
    values = _BOUNDS | {"xid": place["xid"], "id": place["id"], "most_types": MOST_TYPES}
    if await connection.one_or_none(bool, _NEXT, values) is None:
        return  # what follows costs ten times as much
    last = await connection.one(_Place, _ADD, values)
    await monitor_reports.keep(connection, _NAME, {"log": log, **last._asdict()})


async def read(connection: Connection) -> Measures:
    """The measures; the cost grows with the number of types."""
    found = Measures()
    for counter, key, n in await counters.sums(connection, _COUNTERS):
        name = counter.removeprefix("ever:")
        label, _, rest = key.partition(" ")
        if name == "ended":
            found.ended[label, rest] = n
        elif name == "gpu_seconds":
            found.gpu_seconds[key] = n / 1000
        elif name == "deliveries":
            found.deliveries[key] = n
        elif rest == "sum":
            found.histograms[name][label].sum_s = n / 1000
        else:
            found.histograms[name][label].buckets[float(rest)] = n
    return found

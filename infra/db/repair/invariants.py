"""INVARIANTS as queries: each selects one text per violation.

They read one snapshot, so that legal changes in between on a live system are not mistaken for violations. A step that
is overdue by `OVERDUE_S` counts as a violation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.db import holding
from infra.db.connection import listed
from infra.db.ops import counters
from infra.db.slots import eligibility
from workflows.domain import task
from workflows.domain.attempt import USES_RETRY
from workflows.domain.retry import BACKOFF_CAP_S
from workflows.domain.task import TERMINAL, TRANSITIONS

LONGEST_LEASE = "1 h"
OVERDUE_S = 60
"""Seconds that the reconciler and the workflows may take for their work."""
ENDS_PER_S = 50
"""Ends from outside of which the leader notifies workflows in a second, at the least."""
ENDS_IN_ORDER_FOR = "interval '10 min'"
"""How much older an end is at most that is still in front of another one."""


@dataclass(frozen=True)
class Check:
    """`broken` selects one text per violation; `rows` is the table that is examined."""

    invariant: int
    name: str
    rows: str
    broken: str = field(repr=False)


_LEGAL = ", ".join(f"('{before or ''}', '{after}')" for before, after in sorted(TRANSITIONS, key=str))
_TERMINAL = listed(TERMINAL)
FROM_OUTSIDE = listed(task.FROM_OUTSIDE)

ONE_TASK_PER_KEY = Check(
    1,
    "displayId is unique, and a caller's Idempotency-Key",
    "tasks",
    """
    SELECT 'displayId ' || display_id FROM tasks GROUP BY display_id HAVING count(*) > 1
     UNION ALL
    SELECT string_agg(task_id, ', ') FROM tasks WHERE idempotency_key IS NOT NULL
     GROUP BY lineage, idempotency_key HAVING count(*) > 1
    """,
)
LEGAL_EVENTS = Check(
    2,
    "every event is a legal transition from where the last one led, and names its actor",
    "task_events",
    f"""
    SELECT task_id || ' #' || seq || ': ' || COALESCE(from_status, '-') || ' to ' || to_status
      FROM (SELECT *, lag(to_status) OVER (PARTITION BY task_id ORDER BY seq) AS before FROM task_events) e
     WHERE (COALESCE(from_status, ''), to_status) NOT IN ({_LEGAL})
           AND NOT (from_status = to_status  -- a note, of a repair or of another priority: it moves nothing
                    AND (actor = 'reconciler' OR to_status = 'QUEUED' AND actor LIKE 'key:%%'))
        OR from_status IS DISTINCT FROM before OR COALESCE(actor, '') = ''
    """,
)
WHOLE_HISTORY = Check(
    2,
    "a task's events have no gap and end with its status",
    "tasks",
    """
    SELECT t.task_id FROM tasks t
      LEFT JOIN LATERAL (
           SELECT count(*) AS n, min(seq) AS first, max(seq) AS last,
                  (array_agg(to_status ORDER BY seq DESC))[1] AS said
             FROM task_events e WHERE e.task_id = t.task_id) e ON true
     WHERE (e.n, e.first, e.last, e.said) IS DISTINCT FROM (t.event_seq::bigint, 1, t.event_seq, t.status)
    """,
)
ONE_RESULT = Check(
    4,
    "a task has at most one accepted result, of the attempt that succeeded",
    "task_results",
    """
    SELECT r.task_id || '-' || r.attempt FROM task_results r LEFT JOIN attempts a USING (task_id, attempt)
     WHERE (a.outcome, a.gpu_id) IS DISTINCT FROM ('SUCCEEDED', r.gpu_id)
     UNION ALL
    SELECT a.task_id || '-' || a.attempt FROM attempts a LEFT JOIN task_results r USING (task_id, attempt)
     WHERE a.outcome = 'SUCCEEDED' AND r.task_id IS NULL
     UNION ALL
    SELECT task_id FROM task_results GROUP BY task_id HAVING count(*) > 1
    """,
)
COMPLETED_WITH_RESULT = Check(
    4,
    "a task is COMPLETED if and only if its result is collected",
    "tasks",
    """
    SELECT t.task_id FROM tasks t
      LEFT JOIN task_results r USING (task_id) LEFT JOIN attempts a USING (task_id, attempt)
     WHERE (t.status = 'COMPLETED' AND a.collected_at IS NULL)
        OR (t.status <> 'COMPLETED' AND a.collected_at IS NOT NULL)
        OR (r.task_id IS NOT NULL AND t.status NOT IN ('PROCESSING', 'COMPLETED'))
    """,
)
ONE_OPEN_ATTEMPT = Check(
    5,
    "a task has at most one open attempt, its last one, and none once it has ended",
    "attempts",
    f"""
    SELECT a.task_id || '-' || a.attempt FROM attempts a LEFT JOIN tasks t USING (task_id)
     WHERE a.closed_at IS NULL AND (t.task_id IS NULL OR t.status IN ({_TERMINAL}) OR a.attempt <> t.attempts
           OR t.waiting_since IS NOT NULL)
     UNION ALL
    SELECT task_id FROM attempts WHERE closed_at IS NULL GROUP BY task_id HAVING count(*) > 1
    """,
)
RETRIES = Check(
    5,
    "no task used up more retries than it had",
    "tasks",
    f"""
    SELECT t.task_id FROM tasks t
     WHERE t.retry_count > t.max_retries OR t.max_retries + 1 < (
           SELECT count(*) FROM attempts a WHERE a.task_id = t.task_id AND a.outcome IN ({listed(USES_RETRY)}))
    """,
)
STATUS_OF_ATTEMPT = Check(
    5,
    "a task is PROCESSING exactly while an attempt is accepted and not collected",
    "tasks",
    """
    SELECT t.task_id FROM tasks t
      LEFT JOIN attempts a ON a.task_id = t.task_id AND a.attempt = t.attempts
     WHERE (t.status = 'PROCESSING' AND (a.task_id IS NULL OR a.collected_at IS NOT NULL
                                         OR (a.closed_at IS NULL AND a.accepted_at IS NULL)))
        OR (t.status = 'QUEUED' AND a.accepted_at IS NOT NULL AND a.closed_at IS NULL)
    """,
)
SLOTS = Check(
    6,
    "a node's unreleased attempts hold different slots of those that it has; none is released before it is closed",
    "gpus",
    f"""
    SELECT a.gpu_id FROM attempts a LEFT JOIN gpus g USING (gpu_id) WHERE {holding.holds("a")}
     GROUP BY a.gpu_id, g.max_concurrent_tasks
    HAVING g.max_concurrent_tasks IS NULL OR count(DISTINCT a.slot) < count(*) OR min(a.slot) < 1
        OR count(*) FILTER (WHERE a.closed_at IS NULL) > g.max_concurrent_tasks
        OR max(a.slot) FILTER (WHERE a.closed_at IS NULL) > g.max_concurrent_tasks
     UNION ALL
    SELECT task_id || '-' || attempt FROM attempts WHERE closed_at IS NULL AND released_at IS NOT NULL
    """,
)
ORDERED_TIMES = Check(
    8,
    "createdAt, startedAt, completedAt are in order, the last one set if and only if the task has ended",
    "tasks",
    f"""
    SELECT task_id FROM tasks
     WHERE started_at < created_at OR completed_at < COALESCE(started_at, created_at)
        OR (completed_at IS NOT NULL) <> (status IN ({_TERMINAL}))
    """,
)
END_REASON = Check(
    14,
    "a task that was ended from outside has a reason, and no attempt that began later",
    "tasks",
    """
    SELECT t.task_id FROM tasks t JOIN attempts a USING (task_id)
     WHERE t.end_reason IN ('CANCELLED', 'EXPIRED', 'DEADLINE')
       AND (a.claimed_at > t.completed_at OR a.closed_at IS NULL)
     UNION ALL
    SELECT a.task_id || '-' || a.attempt FROM attempts a JOIN tasks t USING (task_id)
     WHERE a.outcome = 'TASK_ENDED' AND t.end_reason IS NULL
     UNION ALL
    SELECT a.task_id || '-' || a.attempt FROM attempts a JOIN tasks t USING (task_id) WHERE a.claimed_at > t.expires_at
    """,
)
EPOCHS = Check(
    10,
    "no attempt is of a registration that is yet to come",
    "attempts",
    """
    SELECT a.task_id || '-' || a.attempt FROM attempts a LEFT JOIN gpus g USING (gpu_id)
     WHERE g.gpu_id IS NULL AND a.released_at IS NULL  -- a node that is long gone is forgotten
        OR a.gpu_epoch > g.epoch OR a.gpu_epoch < 1
    """,
)
ACKNOWLEDGED_WHOLE = Check(
    11,
    "an alert is ACKNOWLEDGED by somebody at a time, or neither",
    "alerts",
    """
    SELECT dedupe_key FROM alerts
     WHERE (acknowledged_at IS NULL) <> (acknowledged_by IS NULL) OR (acknowledged_at IS NULL) <> (status = 'ACTIVE')
        OR acknowledged_at < raised_at
    """,
)
ONE_LEADER = Check(
    12,
    "there is one leader lease",
    "leader_lease",
    "SELECT name || ' ' || holder FROM leader_lease WHERE name <> 'leader' OR epoch < 1",
)
COUNTS = Check(
    13,
    "the kept counts of tasks, nodes and alerts add up with the rows",
    "counters",
    f"""
    WITH counted AS ({counters.COUNTED}), kept AS ({counters.KEPT})
    SELECT counter || ' ' || key || ': ' || COALESCE(kept.n, 0) || ' kept, ' || COALESCE(counted.n, 0) || ' there'
      FROM counted FULL JOIN kept USING (counter, key) WHERE kept.n IS DISTINCT FROM counted.n
    """,
)
OVERDUE = Check(
    3,
    f"nothing that Temporal has to act on has lain for {OVERDUE_S} s",
    "tasks",
    f"""
    SELECT o.task_id || ' is not started' FROM outbox o JOIN tasks t USING (task_id)
     WHERE o.created_at < clock_timestamp() - interval '{OVERDUE_S} s' AND t.completed_at IS NULL
     UNION ALL
    SELECT a.task_id || '-' || a.attempt || ' is not collected' FROM attempts a JOIN tasks t USING (task_id)
     WHERE a.closed_at < clock_timestamp() - interval '{OVERDUE_S} s' AND a.collected_at IS NULL
       AND t.completed_at IS NULL
     UNION ALL
    SELECT task_id || '-' || attempt || ' holds its slot' FROM attempts
     WHERE released_at IS NULL AND closed_at < clock_timestamp() - interval '{OVERDUE_S} s'
     UNION ALL
    SELECT o.task_id || ' has ended, and its workflow is not notified'
      FROM outbox_ends o LEFT JOIN (
           SELECT task_id,
                  count(*) OVER (ORDER BY completed_at RANGE BETWEEN {ENDS_IN_ORDER_FOR} PRECEDING AND CURRENT ROW) AS n
             FROM tasks WHERE end_reason IN ({FROM_OUTSIDE})) turn USING (task_id)
     WHERE o.ended_at < clock_timestamp() - make_interval(secs => {OVERDUE_S} + COALESCE(turn.n, 0) / {ENDS_PER_S}.0)
     UNION ALL
    SELECT operation_id || ' is not worked off' FROM operations
     WHERE state = 'RUNNING' AND updated_at < clock_timestamp() - interval '{OVERDUE_S} s'
     UNION ALL
    SELECT task_id || ' has expired' FROM tasks
     WHERE status = 'QUEUED' AND expires_at < clock_timestamp() - interval '{OVERDUE_S} s'
     UNION ALL
    SELECT task_id || ' is past its own deadline' FROM tasks
     WHERE completed_at IS NULL AND deadline < clock_timestamp() - interval '{OVERDUE_S} s'
     UNION ALL
    SELECT a.task_id || '-' || a.attempt || ' is past its deadline' FROM attempts a JOIN tasks t USING (task_id)
     WHERE a.closed_at IS NULL
       AND a.claimed_at < clock_timestamp() - make_interval(secs => {OVERDUE_S} + t.timeout_ms / 1000.0)
     UNION ALL
    SELECT a.task_id || '-' || a.attempt || ' is held by ' || a.gpu_id || ', which is FAULTY or gone'
      FROM attempts a JOIN gpus g USING (gpu_id)
     WHERE a.closed_at IS NULL AND (g.status = 'FAULTY' OR g.gone_at IS NOT NULL)
       AND COALESCE(g.gone_at, g.status_since) < clock_timestamp() - interval '{OVERDUE_S} s'
    """,
)
IDLE = Check(
    7,
    f"no task has waited for {OVERDUE_S} s beside a free slot that is its",
    "gpus",
    f"""
    SELECT DISTINCT t.task_id || ' beside ' || g.gpu_id
      FROM tasks t JOIN gpus g ON {eligibility.runs("g", "t.task_type")}
     WHERE t.waiting_since < clock_timestamp() - interval '{OVERDUE_S} s'
       AND {eligibility.works("g")} AND {eligibility.serves_those("g", "false")}
       AND NOT g.gpu_id = ANY (t.barred_on)
       AND GREATEST(g.status_since, g.registered_at) < clock_timestamp() - interval '{OVERDUE_S} s'
       AND COALESCE(g.not_before, '-infinity') < clock_timestamp() - interval '{OVERDUE_S} s'
       AND {eligibility.used("g")} < {eligibility.slots("g")}
    """,
)
DRAINED = Check(
    7,
    "nothing was claimed on a node after its drain began",
    "gpus",
    """
    SELECT a.task_id || '-' || a.attempt || ' on ' || a.gpu_id FROM gpus g JOIN attempts a USING (gpu_id)
     WHERE a.claimed_at > g.drained_at AND a.claimed_at <= clock_timestamp()  -- what is yet to come is PAST's
    """,
)
_TIMES = {  # table, what names a row of it, and its times
    "tasks": ("task_id", "created_at, started_at, completed_at, updated_at, waiting_since, promoted_at"),
    "attempts": (
        "task_id || '-' || attempt",
        "claimed_at, accepted_at, progress_at, closed_at, collected_at, released_at",
    ),
    "task_events": ("task_id || ' #' || seq", "at"),
    "gpus": ("gpu_id", "registered_at, status_since, judged_since, drained_at, gone_at"),
    "gpu_beats": ("gpu_id", "at"),
    "alerts": ("dedupe_key", "raised_at, acknowledged_at"),
    "instances": ("instance_id", "started_at, last_beat, listening_since"),
}
PAST = Check(
    8,
    "no stored time is yet to come: the clock was ahead, or was set back",
    "tasks",
    " UNION ALL ".join(
        f"SELECT '{table} ' || {key} FROM {table} WHERE GREATEST({times}) > clock_timestamp()"
        for table, (key, times) in _TIMES.items()
    )
    + f"""
     UNION ALL SELECT 'gpus ' || gpu_id || ' rests too long' FROM gpus
                WHERE not_before > clock_timestamp() + interval '{BACKOFF_CAP_S:g} s'
     UNION ALL SELECT name || ' lease lasts too long' FROM leader_lease
                WHERE expires_at > clock_timestamp() + interval '{LONGEST_LEASE}'
    """,
)
ALWAYS = (
    ONE_TASK_PER_KEY,
    LEGAL_EVENTS,
    WHOLE_HISTORY,
    OVERDUE,
    ONE_RESULT,
    COMPLETED_WITH_RESULT,
    ONE_OPEN_ATTEMPT,
    RETRIES,
    STATUS_OF_ATTEMPT,
    SLOTS,
    IDLE,
    DRAINED,
    ORDERED_TIMES,
    PAST,
    END_REASON,
    EPOCHS,
    ACKNOWLEDGED_WHOLE,
    ONE_LEADER,
    COUNTS,
)
NOTHING_IN_FLIGHT = Check(
    6,
    "nothing is in flight: every task has ended, every slot is free",
    "tasks",
    f"""
    SELECT task_id || ' is ' || status FROM tasks WHERE status NOT IN ({_TERMINAL})
     UNION ALL SELECT task_id || '-' || attempt || ' holds its slot' FROM attempts WHERE released_at IS NULL
    """,
)
"""With `--settled` only."""

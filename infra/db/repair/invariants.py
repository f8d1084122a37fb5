"""INVARIANTS as queries: each selects one text per violation.

They read one snapshot, so that legal changes in between on a live system are not mistaken for violations. Those about
time are in `overdue` and `times`.
"""

from __future__ import annotations

from infra.db import holding
from infra.db.connection import listed
from infra.db.ops import counters
from infra.db.repair import overdue, times
from infra.db.repair.check import Check
from workflows.domain.attempt import USES_RETRY
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import TERMINAL, TRANSITIONS

_LEGAL = ", ".join(f"('{before or ''}', '{after}')" for before, after in sorted(TRANSITIONS, key=str))
_TERMINAL = listed(TERMINAL)

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
                    AND (actor = '{SystemActor.RECONCILER}' OR to_status = 'QUEUED' AND actor LIKE 'key:%%'))
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
END_REASON = Check(
    14,
    "a task that was ended from outside has a reason, and no attempt that began later",
    "tasks",
    f"""
    SELECT t.task_id FROM tasks t JOIN attempts a USING (task_id)
     WHERE t.end_reason IN ({overdue.FROM_OUTSIDE})
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
    "no attempt is of a registration in the future",
    "attempts",
    """
    SELECT a.task_id || '-' || a.attempt FROM attempts a LEFT JOIN gpus g USING (gpu_id)
     WHERE g.gpu_id IS NULL AND a.released_at IS NULL  -- a node that is long gone is forgotten
        OR a.gpu_epoch > g.epoch OR a.gpu_epoch < 1
    """,
)
ACKNOWLEDGED_WHOLE = Check(
    11,
    "an alert is ACKNOWLEDGED if and only if it says who acknowledged it, and when",
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
     UNION ALL
    SELECT counter || ' ' || key || ': ' || n || ' missing' FROM ({counters.SUMS_WRONG}) sums
    """,
)
DRAINED = Check(
    7,
    "nothing was claimed on a node after its drain began",
    "gpus",
    """
    SELECT a.task_id || '-' || a.attempt || ' on ' || a.gpu_id FROM gpus g JOIN attempts a USING (gpu_id)
     WHERE a.claimed_at > g.drained_at AND a.claimed_at <= clock_timestamp()  -- times in the future are `times.PAST`'s
    """,
)
ALWAYS = (
    ONE_TASK_PER_KEY,
    LEGAL_EVENTS,
    WHOLE_HISTORY,
    overdue.OVERDUE,
    ONE_RESULT,
    COMPLETED_WITH_RESULT,
    ONE_OPEN_ATTEMPT,
    RETRIES,
    STATUS_OF_ATTEMPT,
    SLOTS,
    overdue.IDLE,
    DRAINED,
    times.ORDERED_TIMES,
    times.PAST,
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
"""This check is made only with `--settled`."""

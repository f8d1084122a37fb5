"""Steps that are overdue: one by `OVERDUE_S` counts as a violation."""

from __future__ import annotations

from infra.db.connection import listed
from infra.db.repair.check import Check
from infra.db.slots import eligibility
from workflows.domain import task

OVERDUE_S = 60
"""Seconds that the reconciler and the workflows may take for their work."""
ENDS_PER_S = 50
"""The least number of workflows per second that the leader notifies of ends from outside."""
STARTS_PER_S = 15
"""The least number of workflows per second that are started, by an API process or by the reconciler."""
IN_ORDER_FOR = "interval '10 min'"
"""How far back ends, or creations, count as queued ahead of one that is still to be sent."""
FROM_OUTSIDE = listed(task.FROM_OUTSIDE)

OVERDUE = Check(
    3,
    f"no step of a task, an attempt or an operation is overdue by {OVERDUE_S} s",
    "tasks",
    f"""
    SELECT o.task_id || ' is not started'
      FROM outbox o JOIN (
           SELECT task_id, completed_at,
                  count(*) OVER (ORDER BY created_at RANGE BETWEEN {IN_ORDER_FOR} PRECEDING AND CURRENT ROW) AS n
             FROM tasks WHERE created_at >= (SELECT min(created_at) FROM outbox) - {IN_ORDER_FOR}) turn USING (task_id)
     WHERE turn.completed_at IS NULL
       AND o.created_at < clock_timestamp() - make_interval(secs => {OVERDUE_S} + turn.n / {STARTS_PER_S}.0)
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
                  count(*) OVER (ORDER BY completed_at RANGE BETWEEN {IN_ORDER_FOR} PRECEDING AND CURRENT ROW) AS n
             FROM tasks WHERE end_reason IN ({FROM_OUTSIDE})) turn USING (task_id)
     WHERE o.ended_at < clock_timestamp() - make_interval(secs => {OVERDUE_S} + COALESCE(turn.n, 0) / {ENDS_PER_S}.0)
     UNION ALL
    SELECT operation_id || ' makes no progress' FROM operations
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
       AND COALESCE(a.accepted_at, a.claimed_at)
           < clock_timestamp() - make_interval(secs => {OVERDUE_S} + t.timeout_ms / 1000.0)
     UNION ALL
    SELECT a.task_id || '-' || a.attempt || ' is held by ' || a.gpu_id || ', which is FAULTY or gone'
      FROM attempts a JOIN gpus g USING (gpu_id)
     WHERE a.closed_at IS NULL AND (g.status = 'FAULTY' OR g.gone_at IS NOT NULL)
       AND COALESCE(g.gone_at, g.status_since) < clock_timestamp() - interval '{OVERDUE_S} s'
    """,
)
IDLE = Check(
    7,
    f"no task has waited for {OVERDUE_S} s while a slot that it can use was free",
    "gpus",
    f"""
    SELECT DISTINCT t.task_id || ' beside ' || g.gpu_id
      FROM tasks t JOIN gpus g ON {eligibility.takes("g", eligibility.Task.of_row("t"))}
     WHERE t.waiting_since < clock_timestamp() - interval '{OVERDUE_S} s'
       AND {eligibility.works("g")} AND NOT g.gpu_id = ANY (t.barred_on)
       AND GREATEST(g.status_since, g.registered_at) < clock_timestamp() - interval '{OVERDUE_S} s'
       AND COALESCE(g.not_before, '-infinity') < clock_timestamp() - interval '{OVERDUE_S} s'
       AND {eligibility.used("g")} < {eligibility.slots("g")}
    """,
)

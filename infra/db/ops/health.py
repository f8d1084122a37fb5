"""The state of the whole system from kept counts and instance beats: a few rows, however long the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from infra.db import clock
from infra.db.connection import Connection, listed
from infra.db.ops import counters, instances, monitor_reports
from infra.db.ops.instances import ListedInstance
from infra.db.ops.kinds import OTHER, Kind, by_status, by_type
from workflows.domain.gpu import GpuStatus
from workflows.domain.health import Health, Levels, cluster_health, gpu_health, queue_health, task_health
from workflows.domain.task import FROM_OUTSIDE, UNFINISHED

# A task that was ended from outside is nobody's failure. After a bulk cancel there may be nothing else among the last.
_RECENT = f"""
    SELECT status, count(*) AS n
      FROM (SELECT status FROM (
                   SELECT status, end_reason, completed_at FROM tasks WHERE completed_at <= statement_timestamp()
                    ORDER BY completed_at DESC LIMIT 1000) last
             WHERE end_reason IS NULL OR end_reason NOT IN ({listed(FROM_OUTSIDE)})
             ORDER BY completed_at DESC LIMIT 100) counted
     GROUP BY status
    """
# The wait estimated at creation against the wait until a node first had the task; a synchronous node accepts nothing.
_WAIT_ESTIMATES = """
    SELECT count(*) AS samples,
           round(percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(error_s))::numeric, 3)::float AS median_error_s,
           round(percentile_cont(0.9) WITHIN GROUP (ORDER BY abs(error_s))::numeric, 3)::float AS p90_error_s,
           round(avg(error_s)::numeric, 3)::float AS bias_s
      FROM (SELECT last.estimated_wait_s - extract(epoch FROM first.had_at - last.created_at)::float AS error_s
              FROM (SELECT task_id, estimated_wait_s, created_at FROM tasks WHERE completed_at <= statement_timestamp()
                     ORDER BY completed_at DESC LIMIT %(last)s) last
             CROSS JOIN LATERAL (
                   SELECT min(COALESCE(a.accepted_at, a.claimed_at)) AS had_at FROM attempts a
                    WHERE a.task_id = last.task_id
                      AND (a.accepted_at IS NOT NULL OR a.outcome IN ('SUCCEEDED', 'FAILED'))) first
             WHERE first.had_at IS NOT NULL AND last.estimated_wait_s >= 0) errors
    """
_MONITOR_AGE = f"SELECT {clock.age_s('at')} FROM monitor_reports WHERE name = 'last'"
_DRAINING = "SELECT count(*) FROM gpus WHERE drained_at IS NOT NULL AND gone_at IS NULL AND status = 'ACTIVE'"
"""Counted in an index that holds only draining nodes."""

STUCK_S = 120.0
"""How long stuck workflows count after they were last found, in seconds: others may get stuck with their next step."""
ESTIMATES_OF = 200
"""The number of ended tasks whose estimated wait is compared with the real one."""


@dataclass(frozen=True)
class WaitEstimates:
    """The error of the estimated waits, in seconds; `bias_s` is positive if the real waits were shorter."""

    samples: int = 0
    median_error_s: float | None = None
    p90_error_s: float | None = None
    bias_s: float | None = None


class _Recent(NamedTuple):
    status: str
    n: int


@dataclass(frozen=True)
class SystemState:
    """Counts and levels of one moment."""

    gpus: dict[str, int]
    kinds: Mapping[Kind, int]  # tasks by (type, status)
    alerts: dict[tuple[str, str], int]  # by (level, status)
    recent: dict[str, int]  # the last ended tasks by status
    instances: list[ListedInstance]
    stuck: int = 0  # workflows that can't go on
    draining: int = 0  # of the ACTIVE nodes

    @cached_property
    def tasks(self) -> Counter[str]:
        """The number of tasks in each status."""
        return by_status(self.kinds)

    @cached_property
    def queues(self) -> dict[str, int]:
        """The number of unfinished tasks by type; `OTHER`: of all types without a count of their own."""
        counted = by_type(self.kinds, UNFINISHED)
        return {_label(task_type): counted[task_type] for task_type in sorted(counted, key=_others_last)}

    @property
    def unfinished(self) -> int:
        """`queue_length`: the tasks that have not ended."""
        return sum(self.queues.values())

    @property
    def alive(self) -> list[ListedInstance]:
        """The instances that have beaten lately."""
        return [one for one in self.instances if one.alive]

    @property
    def levels(self) -> Levels:
        """Each component's health."""
        return Levels(
            gpu=gpu_health(self.gpus, self.draining),
            queue=queue_health(self.tasks, self.gpus["ACTIVE"] - self.draining),
            task=task_health(self.recent),
            cluster=cluster_health(
                len(self.alive),
                len(self.instances),
                has_leader=any(one.leads for one in self.alive),
                disk_nearly_full=any(one.disk_nearly_full for one in self.alive),
                stuck=self.stuck,
            ),
        )

    @property
    def load(self) -> dict[str, float]:
        """`system_metrics`: the mean over the living instances, percent."""
        names = ("cpu_usage", "memory_usage", "disk_usage")
        loads = {name: [getattr(one, name) for one in self.alive] for name in names}
        return {name: round(sum(values) / max(len(values), 1), 1) for name, values in loads.items()}

    def report(self) -> dict[str, Any]:
        """The report that the monitor stores."""
        levels = self.levels
        names: dict[str, Health] = {**levels.__dict__, "system": levels.system}
        return {"levels": {name: str(level) for name, level in names.items()}, "gpus": self.gpus, "tasks": self.tasks}


async def read(connection: Connection, instance_timeout_s: float) -> SystemState:
    """The state now."""
    counts = await counters.read(connection)
    return SystemState(
        gpus={status: counts.gpus.get(status, 0) for status in GpuStatus},
        kinds=counts.tasks,
        alerts=counts.alerts,
        recent={row.status: row.n for row in await connection.all(_Recent, _RECENT)},
        instances=await instances.list_all(connection, instance_timeout_s),
        stuck=await stuck(connection),
        draining=await connection.one(int, _DRAINING),
    )


def _label(task_type: int | None) -> str:
    return OTHER if task_type is None else str(task_type)


def _others_last(task_type: int | None) -> tuple[bool, int]:
    """Sort key: all other types are last."""
    return task_type is None, task_type or 0


async def wait_estimates(connection: Connection) -> WaitEstimates:
    """The error of the estimated waits of the last ended tasks: for the monitor, not for a read path."""
    return await connection.one(WaitEstimates, _WAIT_ESTIMATES, {"last": ESTIMATES_OF})


async def keep(connection: Connection, report: dict[str, Any]) -> None:
    """Store the monitor's report."""
    await monitor_reports.keep(connection, "last", report)


async def keep_stuck(connection: Connection, workflows: int) -> None:
    """Keep how many workflows are stuck now."""
    await monitor_reports.keep(connection, "stuck", {"workflows": workflows})


async def stuck(connection: Connection) -> int:
    """The number of workflows that were stuck when they were last looked for, lately."""
    report = await monitor_reports.read(connection, "stuck", within_s=STUCK_S)
    return 0 if report is None else int(report["workflows"])


async def monitor_age_s(connection: Connection) -> float | None:
    """Seconds since the monitor ran last: infinite if that is unknown (`clock`), None if it never has."""
    return await connection.one_or_none(float, _MONITOR_AGE)


async def last_report(connection: Connection) -> dict[str, Any] | None:
    """The monitor's last report."""
    return await monitor_reports.read(connection, "last")

"""The state of the whole system from kept counts and instance beats: a few rows, whatever the history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db import counters, instances
from workflows.domain.gpu import GpuStatus
from workflows.domain.health import Health, Levels, cluster_health, gpu_health, queue_health, task_health
from workflows.domain.task import TERMINAL, TaskStatus

_RECENT = text(
    "SELECT status, count(*) AS n FROM (SELECT status FROM tasks WHERE completed_at IS NOT NULL"
    " ORDER BY completed_at DESC LIMIT 100) last GROUP BY status"
)
_KEEP = text(
    "INSERT INTO monitor_reports AS m (name, body) VALUES ('last', CAST(:body AS json))"
    " ON CONFLICT (name) DO UPDATE SET body = excluded.body, at = clock_timestamp()"
)
_LAST = text("SELECT body FROM monitor_reports WHERE name = 'last'")


@dataclass(frozen=True)
class SystemState:
    """Counts and levels of one moment."""

    gpus: dict[str, int]
    tasks: dict[str, int]
    queues: dict[str, int]  # unfinished tasks by type
    alerts: dict[tuple[str, str], int]  # by (level, status)
    recent: dict[str, int]  # the last ended tasks by status
    instances: Sequence[Row[tuple[object, ...]]]

    @property
    def unfinished(self) -> int:
        """`queue_length`: tasks not finished."""
        return sum(self.queues.values())

    @property
    def levels(self) -> Levels:
        """Each component's health."""
        alive = [one for one in self.instances if one.alive]
        return Levels(
            gpu=gpu_health(self.gpus),
            queue=queue_health(self.tasks, self.gpus["ACTIVE"]),
            task=task_health(self.recent),
            cluster=cluster_health(len(alive), len(self.instances), has_leader=any(one.leads for one in alive)),
        )

    @property
    def load(self) -> dict[str, float]:
        """`system_metrics`: the mean over the living instances, percent."""
        alive = [one for one in self.instances if one.alive]
        names = ("cpu_usage", "memory_usage", "disk_usage")
        return {name: round(sum(getattr(one, name) for one in alive) / max(len(alive), 1), 1) for name in names}

    def report(self) -> dict[str, Any]:
        """What the monitor keeps of it."""
        levels = self.levels
        names: dict[str, Health] = {**levels.__dict__, "system": levels.system}
        return {"levels": {name: str(level) for name, level in names.items()}, "gpus": self.gpus, "tasks": self.tasks}


async def read(connection: AsyncConnection, instance_timeout_s: float) -> SystemState:
    """The state now."""
    counts = await counters.read(connection)
    tasks, queues = dict.fromkeys(map(str, TaskStatus), 0), dict[str, int]()
    for (task_type, status), n in sorted(counts.tasks.items()):
        tasks[status] += n
        if status not in TERMINAL:
            queues[str(task_type)] = queues.get(str(task_type), 0) + n
    return SystemState(
        gpus={status: counts.gpus.get(status, 0) for status in GpuStatus},
        tasks=tasks,
        queues=queues,
        alerts=counts.alerts,
        recent={row.status: row.n for row in await connection.execute(_RECENT)},
        instances=await instances.list_all(connection, instance_timeout_s),
    )


async def keep(connection: AsyncConnection, report: dict[str, Any]) -> None:
    """Keep the monitor's report."""
    await connection.execute(_KEEP, {"body": json.dumps(report)})


async def last_report(connection: AsyncConnection) -> dict[str, Any] | None:
    """The monitor's last report."""
    return (await connection.execute(_LAST)).scalar_one_or_none()

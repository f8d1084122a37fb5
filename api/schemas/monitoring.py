"""Answers of §1: health and metrics."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from api.schemas.fields import Long, sample
from workflows.domain.gpu import GpuStatus
from workflows.domain.health import Health
from workflows.domain.task import TaskStatus

Component = Literal["system", "gpu", "task", "queue", "cluster"]
MetricKey = Literal["gpu_status_counts", "task_status_counts", "queue_lengths", "system_metrics"]

HEALTH = {
    "overall_health": "HEALTHY",
    "gpu_health": "HEALTHY",
    "queue_health": "HEALTHY",
    "active_gpu_count": 12,
    "total_gpu_count": 15,
    "timestamp": 1703123456789,
}


class HealthStatus(BaseModel):
    """§1.2."""

    model_config = sample(**HEALTH)

    overall_health: Health
    gpu_health: Health
    queue_health: Health
    active_gpu_count: int
    total_gpu_count: int
    timestamp: Long


class ComponentHealth(BaseModel):
    """§1.3; `details` differ by component."""

    model_config = sample(
        component="gpu",
        status="HEALTHY",
        details={"active_gpus": 12, "faulty_gpus": 1, "offline_gpus": 2, "total_gpus": 15},
        timestamp=1703123456789,
    )

    component: Component
    status: Health
    details: dict[str, Any]
    timestamp: Long


OVERVIEW_METRICS = {
    "active_gpus": 12,
    "total_tasks": 1247,
    "queue_length": 23,
    "failed_tasks": 3,
    "completed_tasks": 1156,
    "processing_tasks": 8,
    "queued_tasks": 15,
}


class OverviewMetrics(BaseModel):
    """`metrics` of §1.1."""

    model_config = sample(**OVERVIEW_METRICS)

    active_gpus: int
    total_tasks: int
    queue_length: int
    failed_tasks: int
    completed_tasks: int
    processing_tasks: int
    queued_tasks: int


class MonitoringOverview(BaseModel):
    """§1.1."""

    model_config = sample(
        timestamp=1703123456789,
        instance_id="instance-001",
        is_leader=True,
        health_status=HEALTH,
        metrics=OVERVIEW_METRICS,
    )

    timestamp: Long
    instance_id: str
    is_leader: bool
    health_status: HealthStatus
    metrics: OverviewMetrics


class MonitoringMetrics(BaseModel):
    """§1.4; `queue_lengths` by task type, `system_metrics` in percent."""

    model_config = sample(
        gpu_status_counts={"ACTIVE": 12, "OFFLINE": 2, "FAULTY": 1},
        task_status_counts={"QUEUED": 15, "PROCESSING": 8, "COMPLETED": 1156, "FAILED": 3, "TIMEOUT": 1},
        queue_lengths={"2": 5, "3": 8, "4": 10},
        system_metrics={"cpu_usage": 45.2, "memory_usage": 67.8, "disk_usage": 23.1},
    )

    gpu_status_counts: dict[GpuStatus, int]
    task_status_counts: dict[TaskStatus, int]
    queue_lengths: dict[str, int]
    system_metrics: dict[str, float]


class MetricValue(BaseModel):
    """§1.5: one member of `MonitoringMetrics`."""

    model_config = sample(
        key="gpu_status_counts", value={"ACTIVE": 12, "OFFLINE": 2, "FAULTY": 1}, timestamp=1703123456789
    )

    key: MetricKey
    value: dict[str, int | float]
    timestamp: Long

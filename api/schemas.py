"""What comes in and goes out, field for field and in the order of the specification (请求体, 数据模型)."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.gpu import GpuStatus, PriorityQueue
from workflows.domain.priority import DEFAULT_PRIORITY
from workflows.domain.task import TaskStatus

MAX_PAYLOAD = 256 * 1024
MAX_METADATA = 16 * 1024
"""Bytes of UTF-8."""
MAX_TIMEOUT_MS = 86_400_000

PAYLOAD = '{"input": "image.jpg", "output": "result.jpg"}'
METADATA = {"gpuModel": "RTX 4090", "memory": "24GB", "cudaVersion": "11.8"}


def _payload_fits(payload: str) -> str:
    if len(payload.encode()) > MAX_PAYLOAD:
        raise ValueError("too large")
    return payload


def _metadata_fits(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA:
        raise ValueError("too large")
    return metadata


def _distinct(task_types: list[int]) -> list[int]:
    return list(dict.fromkeys(task_types))


Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
GpuId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]


def _sample(**example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": example})


class _Request(BaseModel):
    """Types are taken as they come, never converted; a field that the specification does not know is ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class CreateTask(_Request):
    """§3.5; `timeout` (ms) and `maxRetries` are ours, and optional."""

    model_config = _sample(taskType=2, userId="user_001", app="face_swap_app", priority=2, payload=PAYLOAD, env="prod")

    taskType: Int64
    userId: Name
    app: Name
    priority: Int64 = DEFAULT_PRIORITY
    payload: Annotated[str, AfterValidator(_payload_fits)]
    env: Annotated[str, Field(max_length=64)] | None = None
    timeout: Annotated[int, Field(gt=0, le=MAX_TIMEOUT_MS)] | None = None
    maxRetries: Annotated[int, Field(ge=0, le=100)] | None = None


class RegisterGpu(_Request):
    """§2.4; `vastInsId` is the data model's, `dispatchSecret` is ours: what signs our calls to the node."""

    model_config = _sample(
        gpuId="gpu_001",
        hostname="gpu-server-01",
        ip="192.168.1.100",
        port=8080,
        supportedTaskTypes=[2, 3, 4],
        supportedTaskPriority="VIP",
        version="1.0.0",
        maxConcurrentTasks=4,
        metadata=METADATA,
    )

    gpuId: GpuId
    hostname: Annotated[str, Field(min_length=1, max_length=255)]
    ip: Annotated[str, Field(min_length=1, max_length=45)]
    port: Annotated[int, Field(ge=1, le=65535)]
    supportedTaskTypes: Annotated[list[Int64], Field(min_length=1, max_length=1000), AfterValidator(_distinct)]
    supportedTaskPriority: Annotated[PriorityQueue, Field(strict=False)] = PriorityQueue.NORMAL
    version: Annotated[str, Field(max_length=64)] = ""
    maxConcurrentTasks: Annotated[int, Field(ge=1, le=1024)] = 1
    metadata: Annotated[dict[str, Any], AfterValidator(_metadata_fits)] = Field(default_factory=dict)
    vastInsId: Annotated[str, Field(max_length=128)] | None = None
    dispatchSecret: Annotated[str, Field(max_length=256, pattern=r"^[!-~]+$")] | None = None  # it travels in a header


class UpdateStatus(_Request):
    """§3.6; `progress` (percent) is ours, and optional."""

    model_config = _sample(status="PROCESSING", gpuId="gpu_001", message="任务开始执行")

    status: Annotated[TaskStatus, Field(strict=False)]
    gpuId: GpuId
    message: Annotated[str, Field(max_length=4096)] | None = None
    progress: Annotated[int, Field(ge=0, le=100)] | None = None


class UpdateResult(_Request):
    """§3.7: `result` is a JSON text."""

    model_config = _sample(result='{"resultImages": ["image/2025-01-15/result.jpg"], "processingTime": 180000}')

    result: str


class GpuNodeInfo(BaseModel):
    """GPU节点信息; times in Unix milliseconds."""

    model_config = _sample(
        gpuId="gpu_001",
        hostname="gpu-server-01",
        vastInsId=None,
        ip="192.168.1.100",
        port=8080,
        supportedTaskTypes=[2, 3, 4],
        supportedTaskPriority="VIP",
        status="ACTIVE",
        lastHeartbeat=1703123456789,
        failureCount=0,
        taskFailureCount=0,
        version="1.0.0",
        currentTasks=2,
        maxConcurrentTasks=4,
        metadata=METADATA,
    )

    gpuId: str
    hostname: str
    vastInsId: str | None
    ip: str
    port: int
    supportedTaskTypes: list[int]
    supportedTaskPriority: PriorityQueue
    status: GpuStatus
    lastHeartbeat: int
    failureCount: int
    taskFailureCount: int
    version: str
    currentTasks: int
    maxConcurrentTasks: int
    metadata: dict[str, Any]


class TaskDO(BaseModel):
    """任务信息; times in Unix milliseconds, `timeout` in milliseconds, `estimatedWaitTime` in seconds."""

    model_config = _sample(
        taskId="task_123456789",
        displayId=1001,
        taskType=2,
        status="PROCESSING",
        userId="user_001",
        app="face_swap_app",
        priority=2,
        gpuId="gpu_001",
        payload=PAYLOAD,
        result=None,
        errorMessage=None,
        retryCount=0,
        maxRetries=3,
        timeout=300000,
        estimatedWaitTime=120,
        createdAt=1703123456789,
        startedAt=1703123460000,
        completedAt=None,
        updatedAt=1703123460000,
    )

    taskId: str
    displayId: int
    taskType: int
    status: TaskStatus
    userId: str
    app: str
    priority: int
    gpuId: str | None
    payload: str
    result: str | None
    errorMessage: str | None
    retryCount: int
    maxRetries: int
    timeout: int
    estimatedWaitTime: int
    createdAt: int
    startedAt: int | None
    completedAt: int | None
    updatedAt: int


class Waiting(BaseModel):
    """Extension of §3.3: why a task waits. Counts of nodes by what keeps each from taking it; times in ms and s."""

    model_config = _sample(
        reason="12 nodes: 7 other type, 3 full, 2 faulty",
        since=1703123456000,
        ahead=4,
        estimatedWaitTime=120,
        nodes=12,
        otherType=7,
        full=3,
        free=0,
        faulty=2,
        offline=0,
        backedOff=0,
    )

    reason: str
    since: int
    ahead: int
    estimatedWaitTime: int
    nodes: int
    otherType: int
    full: int
    free: int
    faulty: int
    offline: int
    backedOff: int


class TaskProgress(BaseModel):
    """§3.3; `progress` in percent, `estimatedRemainingTime` in seconds."""

    model_config = _sample(
        taskId="task_123456789",
        status="PROCESSING",
        progress=65,
        estimatedRemainingTime=120,
        gpuId="gpu_001",
        startTime=1703123460000,
        updateTime=1703123500000,
        queuePosition=0,
    )

    taskId: str
    status: TaskStatus
    progress: int
    estimatedRemainingTime: int | None
    gpuId: str | None
    startTime: int | None
    updateTime: int
    queuePosition: int
    waiting: Waiting | None = None


class TaskResult(BaseModel):
    """§3.4; `result` is the JSON value that the node reported, null until the task has finished."""

    model_config = _sample(
        taskId="task_123456789",
        status="COMPLETED",
        result={"resultImages": ["image/2025-01-15/result.jpg"], "processingTime": 180000, "gpuId": "gpu_001"},
        completedAt=1703123640000,
    )

    taskId: str
    status: TaskStatus
    result: Any
    completedAt: int | None


class TaskCreated(BaseModel):
    """§3.5; `estimatedWaitTime` in seconds."""

    model_config = _sample(taskId="task_123456789", displayId=1001, status="QUEUED", estimatedWaitTime=120)

    taskId: str
    displayId: int
    status: TaskStatus
    estimatedWaitTime: int


class AlertInfo(BaseModel):
    """告警信息; times in Unix milliseconds."""

    model_config = _sample(
        id="alert_001",
        title="GPU故障告警",
        message="GPU节点 gpu_003 检测到故障",
        level="CRITICAL",
        status="ACTIVE",
        source="gpu_monitor",
        timestamp=1703123456789,
        acknowledgedAt=None,
        acknowledgedBy=None,
    )

    id: str
    title: str
    message: str
    level: AlertLevel
    status: AlertStatus
    source: str
    timestamp: int
    acknowledgedAt: int | None
    acknowledgedBy: str | None


class AlertStats(BaseModel):
    """§4.3."""

    model_config = _sample(
        total_alerts=8, critical_alerts=1, warning_alerts=2, info_alerts=5, acknowledged_alerts=3, active_alerts=5
    )

    total_alerts: int
    critical_alerts: int
    warning_alerts: int
    info_alerts: int
    acknowledged_alerts: int
    active_alerts: int


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

    model_config = _sample(**HEALTH)

    overall_health: str
    gpu_health: str
    queue_health: str
    active_gpu_count: int
    total_gpu_count: int
    timestamp: int


class ComponentHealth(BaseModel):
    """§1.3; `details` differ by component."""

    model_config = _sample(
        component="gpu",
        status="HEALTHY",
        details={"active_gpus": 12, "faulty_gpus": 1, "offline_gpus": 2, "total_gpus": 15},
        timestamp=1703123456789,
    )

    component: str
    status: str
    details: dict[str, Any]
    timestamp: int


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

    model_config = _sample(**OVERVIEW_METRICS)

    active_gpus: int
    total_tasks: int
    queue_length: int
    failed_tasks: int
    completed_tasks: int
    processing_tasks: int
    queued_tasks: int


class MonitoringOverview(BaseModel):
    """§1.1."""

    model_config = _sample(
        timestamp=1703123456789,
        instance_id="instance-001",
        is_leader=True,
        health_status=HEALTH,
        metrics=OVERVIEW_METRICS,
    )

    timestamp: int
    instance_id: str
    is_leader: bool
    health_status: HealthStatus
    metrics: OverviewMetrics


class MonitoringMetrics(BaseModel):
    """§1.4; `queue_lengths` by task type, `system_metrics` in percent."""

    model_config = _sample(
        gpu_status_counts={"ACTIVE": 12, "OFFLINE": 2, "FAULTY": 1},
        task_status_counts={"QUEUED": 15, "PROCESSING": 8, "COMPLETED": 1156, "FAILED": 3, "TIMEOUT": 1},
        queue_lengths={"2": 5, "3": 8, "4": 10},
        system_metrics={"cpu_usage": 45.2, "memory_usage": 67.8, "disk_usage": 23.1},
    )

    gpu_status_counts: dict[str, int]
    task_status_counts: dict[str, int]
    queue_lengths: dict[str, int]
    system_metrics: dict[str, float]


class MetricValue(BaseModel):
    """§1.5: one member of `MonitoringMetrics`."""

    model_config = _sample(
        key="gpu_status_counts", value={"ACTIVE": 12, "OFFLINE": 2, "FAULTY": 1}, timestamp=1703123456789
    )

    key: str
    value: Any
    timestamp: int


INSTANCE = {
    "instance_id": "instance-001",
    "status": "ACTIVE",
    "role": "LEADER",
    "last_heartbeat": 1703123456789,
    "start_time": 1703120000000,
}


class InstanceSummary(BaseModel):
    """`instances` of §5.1: an instance without its version."""

    model_config = _sample(**INSTANCE)

    instance_id: str
    status: str
    role: str
    last_heartbeat: int
    start_time: int


class InstanceInfo(InstanceSummary):
    """§5.2."""

    model_config = _sample(**INSTANCE, version="2.0.0")

    version: str


class ClusterStatus(BaseModel):
    """§5.1; no `leader_instance` between two leaders."""

    model_config = _sample(
        cluster_id="cluster_001",
        leader_instance="instance-001",
        total_instances=3,
        active_instances=3,
        instances=[INSTANCE],
    )

    cluster_id: str
    leader_instance: str | None
    total_instances: int
    active_instances: int
    instances: list[InstanceSummary]

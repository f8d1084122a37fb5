"""Monitoring endpoints (specification §1)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Path

from api.dependencies import Context, ContextOf
from api.http.envelope import Envelope, ok, says
from api.http.errors import NotFound, Unavailable
from api.middleware.authentication import CallerOf
from api.schemas.monitoring import (
    Component,
    ComponentHealth,
    HealthStatus,
    MetricKey,
    MetricValue,
    MonitoringMetrics,
    MonitoringOverview,
)
from infra.db.access import audit
from infra.db.access.audit import Action
from infra.db.access.callers import Caller
from infra.db.ops import health as system_health
from infra.db.ops.health import SystemState, WaitEstimates
from infra.nodes.beats import now_ms
from infra.temporal import schedules
from infra.temporal.access import TemporalAway

router = APIRouter(prefix="/monitoring", tags=["监控"])

# An unknown name is 404, as of any resource: the enums are only for the document.
ComponentName = Annotated[str, Path(description="组件名称", json_schema_extra={"enum": list(get_args(Component))})]
MetricName = Annotated[str, Path(description="指标键名", json_schema_extra={"enum": list(get_args(MetricKey))})]


async def _state(context: Context) -> SystemState:
    return await context.database.run(lambda c: system_health.read(c, context.settings.instance_timeout))


def _health(state: SystemState) -> dict[str, Any]:
    levels = state.levels
    return {
        "overall_health": levels.system,
        "gpu_health": levels.gpu,
        "queue_health": levels.queue,
        "active_gpu_count": state.gpus["ACTIVE"],
        "total_gpu_count": sum(state.gpus.values()),
        "timestamp": now_ms(),
    }


def _metrics(state: SystemState) -> dict[str, Any]:
    return {
        "gpu_status_counts": state.gpus,
        "task_status_counts": state.tasks,
        "queue_lengths": state.queues,
        "system_metrics": state.load,
    }


@router.get("/overview", response_model=Envelope[MonitoringOverview], summary="1.1 获取监控概览")
async def overview(context: ContextOf) -> dict[str, Any]:
    state = await _state(context)
    return ok(
        {
            "timestamp": now_ms(),
            "instance_id": context.instance.id,
            "is_leader": any(one.leads and one.instance_id == context.instance.id for one in state.instances),
            "health_status": _health(state),
            "metrics": {
                "active_gpus": state.gpus["ACTIVE"],
                "total_tasks": sum(state.tasks.values()),
                "queue_length": state.unfinished,
                "failed_tasks": state.tasks["FAILED"],
                "completed_tasks": state.tasks["COMPLETED"],
                "processing_tasks": state.tasks["PROCESSING"],
                "queued_tasks": state.tasks["QUEUED"],
            },
        }
    )


@router.get("/health", response_model=Envelope[HealthStatus], summary="1.2 获取系统健康状态")
async def health(context: ContextOf) -> dict[str, Any]:
    return ok(_health(await _state(context)))


@router.get(
    "/health/{component}",
    response_model=Envelope[ComponentHealth],
    summary="1.3 获取特定组件健康状态",
    description="扩展：system 的 `details` 另有 `draining_gpus`：active_gpus 中不再接收新任务的节点数；queue 的"
    " `details` 另有 `wait_estimates`：最近结束的任务预估等待时间的误差（秒）；cluster 的 `details` 另有"
    " `stuck_workflows`：最近两分钟内无法推进的工作流数。",
)
async def component_health(context: ContextOf, component: ComponentName) -> dict[str, Any]:
    state = await _state(context)
    details = _details(state).get(component)
    if details is None:
        raise NotFound
    if component == "queue":
        details["wait_estimates"] = await _wait_estimates(context)
    status = getattr(state.levels, component)
    return ok({"component": component, "status": status, "details": details, "timestamp": now_ms()})


async def _wait_estimates(context: Context) -> dict[str, Any]:
    """Extension: how far the estimated waits were off, as the monitor's last run measured it."""
    report = await context.database.run(system_health.last_report) or {}
    return dict(report.get("wait_estimates") or asdict(WaitEstimates()))


def _details(state: SystemState) -> dict[str, dict[str, Any]]:
    gpus, tasks = state.gpus, state.tasks
    return {
        "system": {
            **state.load,
            "active_instances": len(state.alive),
            "active_gpus": gpus["ACTIVE"],
            "draining_gpus": state.draining,
        },
        "gpu": {
            "active_gpus": gpus["ACTIVE"],
            "faulty_gpus": gpus["FAULTY"],
            "offline_gpus": gpus["OFFLINE"],
            "total_gpus": sum(gpus.values()),
        },
        "task": {f"{status.lower()}_tasks": n for status, n in tasks.items()} | {"total_tasks": sum(tasks.values())},
        "queue": {"queue_length": state.unfinished, "queued_tasks": tasks["QUEUED"], "queue_lengths": state.queues},
        "cluster": {
            "total_instances": len(state.instances),
            "active_instances": len(state.alive),
            "leader_instance": next((one.instance_id for one in state.alive if one.leads), None),
            "stuck_workflows": state.stuck,
        },
    }


@router.get("/metrics", response_model=Envelope[MonitoringMetrics], summary="1.4 获取监控指标")
async def metrics(context: ContextOf) -> dict[str, Any]:
    return ok(_metrics(await _state(context)))


@router.get("/metrics/{key}", response_model=Envelope[MetricValue], summary="1.5 获取特定指标")
async def metric(context: ContextOf, key: MetricName) -> dict[str, Any]:
    found = _metrics(await _state(context))
    if key not in found:
        raise NotFound
    return ok({"key": key, "value": found[key], "timestamp": now_ms()})


async def _trigger(context: Context, caller: Caller, what: str) -> None:
    try:
        await schedules.trigger_monitor(context.temporal)
    except TemporalAway as error:
        raise Unavailable from error
    await context.database.run(lambda c: audit.record(c, caller, Action.MONITOR_CHECK, what))


@router.post("/check", response_model=Envelope[str], summary="1.6 手动触发监控检查", responses=says("监控检查已触发"))
async def check(context: ContextOf, caller: CallerOf) -> dict[str, Any]:
    await _trigger(context, caller, "monitoring")
    return ok("监控检查已触发")


@router.post(
    "/health/check", response_model=Envelope[str], summary="1.7 手动触发健康检查", responses=says("健康检查已触发")
)
async def health_check(context: ContextOf, caller: CallerOf) -> dict[str, Any]:
    await _trigger(context, caller, "health")
    return ok("健康检查已触发")

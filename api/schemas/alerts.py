"""Answers of §4: alerts, and how many there are."""

from __future__ import annotations

from pydantic import BaseModel

from api.schemas.fields import Long, sample
from workflows.domain.alert import AlertLevel, AlertStatus


class AlertInfo(BaseModel):
    """告警信息; times in Unix milliseconds."""

    model_config = sample(
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
    timestamp: Long
    acknowledgedAt: Long | None
    acknowledgedBy: str | None


class AlertStats(BaseModel):
    """§4.3."""

    model_config = sample(
        total_alerts=8, critical_alerts=1, warning_alerts=2, info_alerts=5, acknowledged_alerts=3, active_alerts=5
    )

    total_alerts: int
    critical_alerts: int
    warning_alerts: int
    info_alerts: int
    acknowledged_alerts: int
    active_alerts: int

"""Answers of §4: alerts, and how many there are."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field

from api.schemas.fields import Moment, Record, sample
from workflows.domain.alert import AlertLevel, AlertStatus


def id_of(seq: int | str) -> str:
    """`AlertInfo.id` of an alert's number, or the same id."""
    return f"alert_{seq:03}" if isinstance(seq, int) else seq


class AlertInfo(Record):
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
        resolvedAt=None,
    )

    seq: Annotated[str, BeforeValidator(id_of)] = Field(alias="id")
    title: str
    message: str
    level: AlertLevel
    status: AlertStatus
    source: str
    raised_at: Moment = Field(alias="timestamp")
    acknowledged_at: Moment | None
    acknowledged_by: str | None
    resolved_at: Moment | None = Field(None, description="扩展：告警所述情况结束的时间；仍在持续时为 null")

    @classmethod
    def of(cls, row: Any) -> Self:
        """The alert, and how often it was raised if that was more than once."""
        shown = super().of(row)
        if row.count > 1:
            shown.message += f"（共{row.count}次）"
        return shown


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

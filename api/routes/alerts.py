"""Alert endpoints (specification §4)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import ContextOf
from api.http.envelope import Envelope, ok, says
from api.http.paging import PageOf
from api.middleware.authentication import CallerOf
from api.schemas.alerts import AlertInfo, AlertStats, id_of
from api.schemas.params import AlertId
from infra.db.ops import alerts, counters
from infra.db.transactions import acknowledge_alert
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.errors import AlertNotFound

router = APIRouter(prefix="/monitoring/alerts", tags=["告警管理"])


@router.get("", response_model=Envelope[list[AlertInfo]], summary="4.1 获取告警列表")
async def list_alerts(
    request: Request,
    response: Response,
    context: ContextOf,
    page: PageOf,
    level: Annotated[AlertLevel | None, Query(description="告警级别过滤")] = None,
    status: Annotated[AlertStatus | None, Query(description="告警状态过滤")] = None,
) -> dict[str, Any]:
    filters: dict[str, object] = {k: v for k, v in (("level", level), ("status", status)) if v is not None}
    rows, total = await context.database.run(lambda c: alerts.page(c, filters, limit=page.limit, offset=page.offset))
    response.headers.update(page.headers(request, total))
    return ok([AlertInfo.of(row) for row in rows])


@router.get("/stats", response_model=Envelope[AlertStats], summary="4.3 获取告警统计")
async def alert_stats(context: ContextOf) -> dict[str, Any]:
    counts = await context.database.single(counters.alerts_by_kind)
    by_level = {f"{level.lower()}_alerts": _with(counts, level) for level in AlertLevel}
    return ok(
        {
            "total_alerts": sum(by_level.values()),
            **by_level,
            "acknowledged_alerts": _with(counts, AlertStatus.ACKNOWLEDGED),
            "active_alerts": _with(counts, AlertStatus.ACTIVE),
        }
    )


def _with(counts: dict[tuple[str, str], int], part: str) -> int:
    return sum(n for pair, n in counts.items() if part in pair)


@router.post(
    "/{alertId}/acknowledge", response_model=Envelope[str], summary="4.2 确认告警", responses=says("告警已确认")
)
async def acknowledge(context: ContextOf, caller: CallerOf, alert_id: AlertId) -> dict[str, Any]:
    seq = _seq(alert_id)
    await context.database.run(lambda c: acknowledge_alert.acknowledge(c, caller, seq, alert_id))
    return ok("告警已确认")


def _seq(name: str) -> int:
    """The number in an alert's id, which has one spelling only. Raises AlertNotFound."""
    match = re.fullmatch(r"alert_([0-9]{3,18})", name)
    if match is None or id_of(int(match[1])) != name:
        raise AlertNotFound
    return int(match[1])

"""Alerts: what the system wants a person to know, and who has taken note."""

from __future__ import annotations

from typing import Any

from api.console.page import Asked, Page
from api.console.paging import PER_PAGE, Pager
from api.console.texts import N_
from api.schemas.alerts import id_of
from infra.db.ops import alerts
from workflows.domain.alert import AlertLevel, AlertStatus
from workflows.domain.event import EventType


async def contents(asked: Asked) -> dict[str, Any]:
    query = asked.query
    status = query.get("status", AlertStatus.ACTIVE)
    level = query.get("level", "")
    filters: dict[str, object] = {}
    if status in set(AlertStatus):
        filters["status"] = status
    if level in set(AlertLevel):
        filters["level"] = level
    number = Pager.number_in(query)
    rows, total = await asked.context.database.run(
        lambda c: alerts.page(c, filters, limit=PER_PAGE, offset=(number - 1) * PER_PAGE)
    )
    return {
        "alerts": [(id_of(row.seq), row) for row in rows],
        "pager": Pager(number, total, query),
        "status": status,
        "level": level,
        "levels": list(AlertLevel),
    }


PAGE = Page(
    "alerts",
    "/alerts",
    N_("Alerts"),
    contents,
    key="a",
    events=frozenset({EventType.ALERT_RAISED, EventType.ALERT_ACKNOWLEDGED, EventType.ALERT_RESOLVED}),
)

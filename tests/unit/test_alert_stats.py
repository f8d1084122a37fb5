"""The statistics of alerts are read alone: one statement."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

from api.routes.alerts import alert_stats
from infra.db.ops import counters

COUNTS = {("CRITICAL", "ACTIVE"): 1, ("CRITICAL", "ACKNOWLEDGED"): 2, ("INFO", "ACTIVE"): 4}


async def test_alerts_are_counted_by_level_and_by_status() -> None:
    context = MagicMock()
    context.database.single = AsyncMock(return_value=COUNTS)
    context.database.run = AsyncMock(side_effect=AssertionError("more than the counts of alerts is read"))
    assert (await alert_stats(context))["data"] == {
        "total_alerts": 7,
        "critical_alerts": 3,
        "warning_alerts": 0,
        "info_alerts": 4,
        "acknowledged_alerts": 2,
        "active_alerts": 5,
    }
    context.database.single.assert_awaited_once_with(counters.alerts_by_kind)

"""Alerts (specification §4): raised once per cause, acknowledged once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from infra.db import counters
from infra.db.connection import Connection, Row
from workflows.domain.alert import AlertLevel
from workflows.domain.errors import AlertNotFound


@dataclass(frozen=True)
class NewAlert:
    """An alert to raise; the same `dedupe_key` raises it once."""

    dedupe_key: str
    title: str
    message: str
    level: AlertLevel
    source: str


_RAISE = text(
    "INSERT INTO alerts (dedupe_key, title, message, level, source)"
    " VALUES (:dedupe_key, :title, :message, :level, :source) ON CONFLICT (dedupe_key) DO NOTHING"
)
# Named after the one before it, so that two processes that find the same raise one.
_RAISE_FLEET_SILENT = text(
    """
    WITH last AS (
        SELECT seq, status, raised_at
          FROM (SELECT * FROM alerts WHERE level = 'CRITICAL' ORDER BY seq DESC LIMIT 1000) recent
         WHERE starts_with(dedupe_key, 'fleet-silent:') ORDER BY seq DESC LIMIT 1)
    INSERT INTO alerts (dedupe_key, title, message, level, source)
    SELECT 'fleet-silent:' || COALESCE((SELECT seq FROM last), 0), '大量GPU同时失联', :message, 'CRITICAL',
           'gpu_monitor'
     WHERE NOT EXISTS (SELECT FROM last WHERE raised_at > clock_timestamp() - make_interval(secs =>
                       CASE status WHEN 'ACTIVE' THEN :repeat ELSE :lasts END))
        ON CONFLICT (dedupe_key) DO NOTHING
    """
)
FLEET_SILENT_AGAIN_S = 3600.0
_ACKNOWLEDGE = text(
    "UPDATE alerts SET status = 'ACKNOWLEDGED', acknowledged_at = clock_timestamp(), acknowledged_by = :by"
    " WHERE seq = :seq AND status = 'ACTIVE'"
)
_EXISTS = text("SELECT EXISTS (SELECT FROM alerts WHERE seq = :seq)")
_FILTERS = {"level": "level = :level", "status": "status = :status"}


def unserved(task_type: int, first: str) -> NewAlert:
    """Tasks wait for a type that no registered node supports; once per first waiting task."""
    return NewAlert(
        dedupe_key=f"unserved:{task_type}:{first}",
        title="任务类型无可用节点",
        message=f"没有已注册的GPU节点支持任务类型 {task_type}，任务 {first} 正在等待",
        level=AlertLevel.WARNING,
        source="task_monitor",
    )


def miscounted(wrong: list[str]) -> NewAlert:
    """Kept counts differed from the rows and were corrected; once an hour at most."""
    return NewAlert(
        dedupe_key=f"miscounted:{int(time.time() // 3600)}",
        title="统计计数已校正",
        message=f"{len(wrong)} 项统计计数与数据不一致，已按数据校正: " + ", ".join(wrong[:10]),
        level=AlertLevel.WARNING,
        source="system_monitor",
    )


async def raise_alert(connection: Connection, alert: NewAlert) -> bool:
    """(new) → ACTIVE; False where it was raised before."""
    return (await connection.execute(_RAISE, alert.__dict__)).rowcount == 1


async def fleet_silent(connection: Connection, held: list[str], fleet: int, lasts_s: float) -> bool:
    """CRITICAL: a large part of the fleet fell silent at once, and these nodes are held. One alert for one outage.

    While the last one is not acknowledged it stands for those that follow, and is repeated after an hour; once it is,
    an outage that begins later raises its own. `lasts_s`: so long one outage is at most.
    """
    message = f"{fleet} 个GPU节点中有 {len(held)} 个同时失去心跳，疑为系统自身或网络故障，暂缓摘除: " + ", ".join(
        sorted(held)[:20]
    )
    values = {"message": message, "repeat": max(FLEET_SILENT_AGAIN_S, lasts_s), "lasts": lasts_s}
    return (await connection.execute(_RAISE_FLEET_SILENT, values)).rowcount == 1


async def acknowledge(connection: Connection, seq: int, by: str) -> bool:
    """ACTIVE → ACKNOWLEDGED; False where it was so before: the first one stays. Raises AlertNotFound."""
    changed = (await connection.execute(_ACKNOWLEDGE, {"seq": seq, "by": by})).rowcount == 1
    if not (await connection.execute(_EXISTS, {"seq": seq})).scalar_one():
        raise AlertNotFound
    return changed


async def page(
    connection: Connection, filters: dict[str, object], *, limit: int, offset: int
) -> tuple[Sequence[Row], int]:
    """One page of alerts, the newest first, and how many there are in all."""
    where = " AND ".join(_FILTERS[name] for name in filters) or "true"
    counts = (await counters.read(connection)).alerts
    total = sum(n for pair, n in counts.items() if set(filters.values()) <= set(pair))
    statement = text(f"SELECT * FROM alerts WHERE {where} ORDER BY seq DESC LIMIT :limit OFFSET :offset")
    rows = await connection.execute(statement, filters | {"limit": limit, "offset": offset})
    return rows.all(), total

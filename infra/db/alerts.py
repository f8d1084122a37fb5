"""Alerts (specification §4): raised once per cause, acknowledged once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from workflows.domain.alert import AlertLevel
from workflows.domain.errors import AlertNotFound

AnyRow = Row[tuple[object, ...]]


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
_ACKNOWLEDGE = text(
    "UPDATE alerts SET status = 'ACKNOWLEDGED', acknowledged_at = clock_timestamp(), acknowledged_by = :by"
    " WHERE seq = :seq AND status = 'ACTIVE'"
)
_EXISTS = text("SELECT EXISTS (SELECT FROM alerts WHERE seq = :seq)")
_FILTERS = {"level": "level = :level", "status": "status = :status"}


async def raise_alert(connection: AsyncConnection, alert: NewAlert) -> bool:
    """(new) → ACTIVE; False where it was raised before."""
    return (await connection.execute(_RAISE, alert.__dict__)).rowcount == 1


async def acknowledge(connection: AsyncConnection, seq: int, by: str) -> None:
    """ACTIVE → ACKNOWLEDGED; the first acknowledgement stays. Raises AlertNotFound."""
    await connection.execute(_ACKNOWLEDGE, {"seq": seq, "by": by})
    if not (await connection.execute(_EXISTS, {"seq": seq})).scalar_one():
        raise AlertNotFound


async def page(
    connection: AsyncConnection, filters: dict[str, object], *, limit: int, offset: int
) -> tuple[Sequence[AnyRow], int]:
    """One page of alerts, the newest first, and how many there are in all."""
    where = " AND ".join(_FILTERS[name] for name in filters) or "true"
    total = (await connection.execute(text(f"SELECT count(*) FROM alerts WHERE {where}"), filters)).scalar_one()
    statement = text(f"SELECT * FROM alerts WHERE {where} ORDER BY seq DESC LIMIT :limit OFFSET :offset")
    rows = await connection.execute(statement, filters | {"limit": limit, "offset": offset})
    return rows.all(), total

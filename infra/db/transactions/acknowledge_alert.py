"""A caller's acknowledgement of an alert."""

from __future__ import annotations

from infra.db.access import audit
from infra.db.access.audit import Action
from infra.db.access.callers import Caller
from infra.db.connection import Connection
from infra.db.ops import alerts


async def acknowledge(connection: Connection, by: Caller, seq: int, alert_id: str) -> None:
    """Acknowledge an alert, and record it; `alert_id` is its id in the API. Raises AlertNotFound."""
    changed = await alerts.acknowledge(connection, seq, by.owner)
    await audit.record(connection, by, Action.ALERT_ACKNOWLEDGE, alert_id, changed=changed)

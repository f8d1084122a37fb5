"""The body of a delivery: the event as `GET /events` shows it, with the result if it is small."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from infra.db.ops import event_log

MAX_RESULT = 16 * 1024
"""Bytes of a result that travel with the event. For a larger one the body says where it is."""
TEST = "webhook.test"


def of_event(
    event_id: str,
    kind: str,
    at: datetime,
    data: dict[str, Any],
    *,
    task_id: str | None = None,
    gpu_id: str | None = None,
    alert_id: str | None = None,
    result: str | None = None,
) -> bytes:
    """The bytes that are sent, and sent again."""
    named = {"task_id": task_id, "gpu_id": gpu_id, "alert_id": alert_id}
    return event_log.encoded(event_id, kind, at, data | _result(task_id, result), **named)


def _result(task_id: str | None, result: str | None) -> dict[str, Any]:
    if result is None:
        return {}
    if len(result.encode()) <= MAX_RESULT:
        return {"result": msgspec.Raw(result.encode())}
    return {"resultUrl": f"/api/v2/tasks/{task_id}/result"}

"""A task's progress: as its node reports it, or an estimate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic.alias_generators import to_camel

from infra.db.slots import progress_estimate
from infra.db.slots.capacity import Capacity
from infra.db.slots.wait_estimate import expected_wait_s
from infra.db.tasks.queries import Progress


def shown(row: Progress, capacity: Capacity, ahead: int) -> dict[str, Any]:
    """TaskProgress (DESIGN).

    While the task waits, `ahead` tasks come before it, and the extension `waiting` says what it waits for.
    """
    percent, remaining_s = progress_estimate.of(row, capacity, ahead)
    answer = {
        "taskId": row.task_id,
        "status": row.status,
        "progress": percent,
        "estimatedRemainingTime": remaining_s,
        "gpuId": row.gpu_id,
        "startTime": row.started_at,
        "updateTime": row.progress_at or row.updated_at,
        "queuePosition": ahead + 1 if row.status == "QUEUED" else 0,
    }
    if row.waiting_since is not None:
        answer["waiting"] = _waiting(capacity, ahead) | {"since": row.waiting_since}
    return answer


def _waiting(capacity: Capacity, ahead: int) -> dict[str, Any]:
    """Why a task waits, in words and in numbers (extension)."""
    counts = asdict(capacity.nodes)
    return {
        "reason": capacity.nodes.reason(),
        "ahead": ahead,
        "estimatedWaitTime": expected_wait_s(ahead, capacity),
        "backedOff": counts.pop("resting"),
        **{to_camel(name): count for name, count in counts.items()},
    }

"""A task's progress: as its node reports it, or an estimate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic.alias_generators import to_camel

from infra.db.slots.capacity import Capacity
from infra.db.slots.wait_estimate import expected_wait_s
from infra.db.tasks.queries import Progress


def shown(row: Progress, capacity: Capacity, ahead: int) -> dict[str, Any]:
    """TaskProgress: the node's own progress, else elapsed over usual duration, at most 99 (DESIGN).

    While the task waits, `ahead` tasks come before it, and the extension `waiting` says what it waits for.
    """
    percent, remaining_s = _progress(row, capacity, ahead)
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


def _progress(row: Progress, capacity: Capacity, ahead: int) -> tuple[int, int | None]:
    """Percent, and seconds until the end (None if unknown)."""
    if row.status == "QUEUED":
        wait_s = expected_wait_s(ahead, capacity)
        return 0, None if wait_s is None else wait_s + round(capacity.usual_s)
    if row.status != "PROCESSING":
        return (100 if row.status == "COMPLETED" else 0), 0
    elapsed_s = max((row.now - (row.started_at or row.now)).total_seconds(), 0.0)  # the clock may have been set back
    if row.progress:
        return row.progress, max(0, round(elapsed_s * (100 - row.progress) / row.progress))
    percent = 0 if row.progress == 0 else min(99, int(100 * elapsed_s / max(capacity.usual_s, 0.001)))
    return percent, max(0, round(capacity.usual_s - elapsed_s))


def _waiting(capacity: Capacity, ahead: int) -> dict[str, Any]:
    """Why a task waits, in words and in numbers (extension)."""
    nodes = capacity.nodes
    return {
        "reason": nodes.reason(),
        "ahead": ahead,
        "estimatedWaitTime": expected_wait_s(ahead, capacity),
        **{to_camel(name): count for name, count in asdict(nodes).items()},
    }

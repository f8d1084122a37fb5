"""The input and the result of a creation."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import datetime

from workflows.domain.errors import WaitTooLong

UNKNOWN_RETRY_S = 60
"""`Retry-After` in seconds if the wait is unknown: a node that serves the type may be there by then."""


def new_task_id() -> str:
    """An id that no task has."""
    return f"task_{time.time_ns() // 1_000_000:x}{secrets.token_hex(6)}"


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """A caller's request, completed by the limits of its type. A retry takes it over."""

    task_type: int
    user_id: str
    app: str
    priority: int
    payload: str
    env: str | None
    timeout_ms: int
    max_retries: int
    flow: str | None = None  # workflows.domain.shares
    group_id: str | None = None
    expires_at: datetime | None = None
    deadline: datetime | None = None
    webhook: str | None = None  # a URL that gets its end
    webhook_id: str | None = None  # whose secret signs that


@dataclass(frozen=True, kw_only=True)
class NewTask(TaskRequest):
    """A task to create."""

    task_id: str
    queue_class: int
    traceparent: str | None
    lineage: str
    idempotency_key: str | None
    request_hash: str | None
    retry_of: str | None = None


@dataclass(frozen=True)
class TimeBounds:
    """A caller's limits, counted from the creation. `max_wait_s` 0: a slot at once."""

    expires_in_ms: int | None = None
    max_wait_s: int | None = None

    def check_wait(self, wait_s: int | None) -> None:
        """Check the wait of a task that has no slot; `wait_s` is None if it is unknown. Raises WaitTooLong."""
        if self.max_wait_s is None:
            return
        if wait_s is None:
            raise WaitTooLong(UNKNOWN_RETRY_S)
        if self.max_wait_s == 0 or wait_s > self.max_wait_s:
            raise WaitTooLong(wait_s - self.max_wait_s)


NO_BOUNDS = TimeBounds()


@dataclass(frozen=True)
class StoredTask:
    """The answer to a creation."""

    task_id: str
    display_id: int
    status: str
    estimated_wait_s: int

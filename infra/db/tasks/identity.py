"""The ids of new tasks."""

from __future__ import annotations

import secrets
import time


def new_task_id() -> str:
    """An id that no task has."""
    return f"task_{time.time_ns() // 1_000_000:x}{secrets.token_hex(6)}"

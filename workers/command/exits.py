"""Exit statuses of the commands that call the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DONE = 0
"""The watched task is COMPLETED."""
FAILED = 1
"""The watched task FAILED; of a bulk operation: tasks that it could not change."""
USAGE = 2
"""The command line is wrong; argparse's own."""
TIMEOUT = 3
"""The watched task ended TIMEOUT: it ran too long, expired, or passed its deadline."""
CANCELLED = 4
"""The watched task was cancelled."""
REFUSED = 5
"""The API refused the call or did not answer, or nobody is signed in: nothing is known of the task."""
LEFT = 130
"""Ctrl-C; the task goes on."""

ENDED = {"COMPLETED": DONE, "FAILED": FAILED, "TIMEOUT": TIMEOUT}


def of_task(task: Mapping[str, Any]) -> int:
    """The exit status for a task that has ended."""
    return CANCELLED if task.get("endReason") == "CANCELLED" else ENDED.get(str(task.get("status")), FAILED)

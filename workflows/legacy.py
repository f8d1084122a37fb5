"""Steps that only runs begun by an earlier version take, so that their histories replay and they go on to their end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow

BACKSTOP = timedelta(minutes=10)


async def heard_in_time(has_heard: Callable[[], bool]) -> bool:
    """Wait for a grant with a timer, as before 2026-11-30. False: look for a slot again."""
    try:
        await workflow.wait_condition(has_heard, timeout=BACKSTOP, timeout_summary="look again")
    except TimeoutError:
        return False
    return True

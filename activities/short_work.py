"""Short work: which dispatches ask their node to hold its answer until the work is done (ADR 0031)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from temporalio import activity

from infra.db.attempts.dispatch_request import DispatchRequest
from infra.db.slots.forecast import Forecast
from workflows.policies import FIRST_DISPATCH

WAIT_S = 1
AT_ONCE = 50
"""Answers that a process waits for at the same time: each holds a workflow task, of which a worker has a hundred."""
SPARE_S = 0.5
"""Time that a first try needs in addition to the wait: to connect, and to store the result."""


class ShortWork:
    """Lets nodes answer short work in its dispatch, which saves a signal, a timer and a workflow task."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._waiting = 0

    @asynccontextmanager
    async def preference(self, request: DispatchRequest) -> AsyncIterator[dict[str, str]]:
        """The headers with which a node is asked to hold its answer; none if it is not to be held."""
        if self._waiting >= AT_ONCE or not await self._is_short(request):
            yield {}
            return
        self._waiting += 1
        try:
            yield {"Prefer": f"wait={WAIT_S}"}
        finally:
            self._waiting -= 1

    async def _is_short(self, request: DispatchRequest) -> bool:
        """Only a first try waits, for at most half of the task's timeout, if the work usually ends within that time."""
        if not activity.info().is_local or _left_s() < WAIT_S + SPARE_S or request.timeout_ms < 2000 * WAIT_S:
            return False
        if request.expires_soon:
            return False
        return await self._forecast.usual_s(request.task_type) <= WAIT_S


def _left_s() -> float:
    """Seconds left for this try; they count from the moment in which it was scheduled."""
    return (activity.info().scheduled_time + FIRST_DISPATCH - datetime.now(UTC)).total_seconds()

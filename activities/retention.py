"""The retention's step: forgets page by page, and rests so that other work is not slowed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import activity

from activities.beating import beating
from infra.db.attempts import queries as attempt_queries
from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.transactions import forget
from infra.settings import Settings

Forget = Callable[[Connection, timedelta, int], Awaitable[int]]

RUN_S = 1800.0
"""Seconds after which a run leaves the rest to the next one."""
REST = 4.0
"""Rest after a page, as a multiple of its duration: a fifth of the time is spent on forgetting."""
BUSY_REST = 19.0
"""The same while dispatches are slow: a twentieth."""
SLOW_S = 2.0
"""Seconds after which a claimed slot whose node has not accepted counts as slow; a node may hold its answer for one."""


class RetentionSteps:
    """Implements `workflows.ports.RetentionActivities`."""

    def __init__(
        self, database: Database, settings: Settings, *, page: int = forget.PAGE, run_s: float = RUN_S
    ) -> None:
        self._run = database.run
        self._page = page
        self._run_s = run_s
        self._kinds: dict[str, tuple[Forget, float]] = {
            "tasks": (forget.tasks, settings.retain_tasks),
            "payloads": (forget.payloads, settings.retain_payloads),
            "events": (forget.events, settings.retain_events),
            "operations": (forget.operations, settings.retain_tasks),
            "deliveries": (forget.deliveries, settings.retain_payloads),
            "nodes": (forget.nodes, settings.retain_tasks),
            "alerts": (forget.alerts, settings.retain_alerts),
            "audit": (forget.audit, settings.retain_audit),
        }

    @activity.defn(name="forget")
    async def forget(self) -> dict[str, int]:
        """Forget what is older than the settings keep it; counts by kind, without the zeros."""
        async with beating():
            return await self.forget_all()

    async def forget_all(self) -> dict[str, int]:
        """`forget`, outside an activity too."""
        forgotten: Counter[str] = Counter()
        until = time.monotonic() + self._run_s
        left = list(self._kinds)
        while left and time.monotonic() < until:
            for kind in list(left):
                began = time.monotonic()
                count = await self._forget(kind)
                forgotten[kind] += count
                if count < self._page:
                    left.remove(kind)
                else:
                    await asyncio.sleep((time.monotonic() - began) * await self._rest())
        return {kind: count for kind, count in forgotten.items() if count}

    async def _forget(self, kind: str) -> int:
        forget_page, days = self._kinds[kind]
        return await self._run(lambda c: forget_page(c, timedelta(days=days), self._page))

    async def _rest(self) -> float:
        return BUSY_REST if await self._run(lambda c: attempt_queries.is_any_unaccepted(c, SLOW_S)) else REST

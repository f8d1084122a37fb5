"""The retention's step: forgets page by page, and rests so that other work is not slowed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import psycopg
from temporalio import activity

from activities.beating import beating
from infra.db.connection import Connection
from infra.db.session import Database, DatabaseSilent
from infra.db.transactions import forget
from infra.settings import Settings
from infra.temporal.schedules import RETENTION_INTERVAL_S

log = logging.getLogger(__name__)

Forget = Callable[[Connection, timedelta, int], Awaitable[int]]

TOO_SLOW = (DatabaseSilent, psycopg.errors.QueryCanceled)
"""Errors after which a page is tried again with half as many."""
EVENTS = 10
"""Events that are forgotten with each task: one costs a tenth of a task."""
RUN_S = 3 * RETENTION_INTERVAL_S - 60
"""Seconds after which a run leaves the rest to the next one. It ends a minute before a turn of the schedule: if it
ended just after one, nothing would run until the next turn."""
REST = 24.0
"""Rest after a page, as a multiple of its duration: forgetting takes a twenty-fifth of the time. On two cores that is
still several times the rate at which tasks run; at a fifth of the time, the p99 of other calls rose by a fifth to a
half (ADR 0038)."""


class RetentionSteps:
    """Implements `workflows.ports.RetentionActivities`."""

    def __init__(
        self, database: Database, settings: Settings, *, page: int = forget.PAGE, run_s: float = RUN_S
    ) -> None:
        self._run = database.run
        self._page = page
        self._run_s = run_s
        whole = timedelta(days=settings.retain_tasks)
        self._kinds: dict[str, tuple[Forget, float]] = {
            "tasks": (forget.tasks, settings.retain_tasks),
            "payloads": (partial(forget.payloads, whole=whole), settings.retain_payloads),
            "events": (forget.events, settings.retain_events),
            "operations": (forget.operations, settings.retain_tasks),
            "deliveries": (partial(forget.deliveries, pending=whole), settings.retain_payloads),
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
        """`forget`, outside an activity too. A kind that fails stops no other one.

        Raises the first failure, after all kinds.
        """
        forgotten: Counter[str] = Counter()
        failures: list[Exception] = []
        until = time.monotonic() + self._run_s
        pages = dict.fromkeys(self._kinds, self._page) | {"events": EVENTS * self._page}
        while pages and time.monotonic() < until:
            for kind in list(pages):
                began = time.monotonic()
                pages[kind] = await self._forget(kind, pages[kind], forgotten, failures)
                if pages[kind]:
                    await asyncio.sleep((time.monotonic() - began) * REST)
                else:
                    del pages[kind]
        if failures:
            raise failures[0]
        return {kind: count for kind, count in forgotten.items() if count}

    async def _forget(self, kind: str, page: int, forgotten: Counter[str], failures: list[Exception]) -> int:
        """Forget a page of a kind. Returns the size of the next one, or 0 after the last one."""
        forget_page, days = self._kinds[kind]
        try:
            count = await self._run(lambda c: forget_page(c, timedelta(days=days), page))
        except TOO_SLOW as error:
            log.warning("could not forget %d %s in time: %s", page, kind, error)
            if page == 1:
                failures.append(error)
            return page // 2
        except Exception as error:
            log.exception("%s could not be forgotten", kind)
            failures.append(error)
            return 0
        forgotten[kind] += count
        return page if count >= page else 0

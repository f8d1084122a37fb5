"""What waiting tasks say of themselves in the Web UI, kept true for the heads of the queues.

A workflow writes the text when it begins to wait, and after that only when it looks again. To wake every
waiting workflow on each change of the fleet would cost seven events each; so the monitor lets only the
first few of each type look again, and only those for which the text has changed.
"""

from __future__ import annotations

import asyncio
import logging

from infra.db import queue
from infra.db.engine import Database
from infra.forecast import Forecast
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway

log = logging.getLogger(__name__)

HEADS = 10
"""Of each task type."""
AT_MOST = 300
"""In one turn."""
AGE_S = 1.0


class Explanations:
    """Remembers what it has told: a new process tells each head once more."""

    def __init__(self, database: Database, engine: TemporalGateway, settings: Settings) -> None:
        self._database = database
        self._engine = engine
        self._forecast = Forecast(database, strict_vip=settings.vip_nodes_strict)
        self._told: dict[str, str] = {}

    async def refresh(self) -> None:
        """Let the heads look again that wait for something else than before."""
        rows = await self._database.run(lambda c: queue.heads(c, age_s=AGE_S, each=HEADS, limit=AT_MOST))
        reasons = {row.task_id: (await self._forecast.of(row.task_type, vip=row.vip)).nodes.reason() for row in rows}
        changed = [task_id for task_id, reason in reasons.items() if self._told.get(task_id) != reason]
        self._told = reasons
        for outcome in await asyncio.gather(*map(self._engine.look, changed), return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.info("a waiting task could not be told what it waits for: %s", outcome)

"""The leader's search for stuck workflows, and their repair (ADR 0027).

The server names workflows whose workflow task fails again and again, for example after an unguarded change of workflow
code. The database says what such a workflow has to do. So the leader collects the accepted result, and starts a new
run, which begins with the current code. The monitor can't do this, because its own workflow may be stuck too.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress

from cachetools import TTLCache

from infra.db.connection import Connection
from infra.db.one_by_one import one_by_one
from infra.db.ops import alerts, health
from infra.db.repair import drift
from infra.db.repair.drift import Drifted
from infra.db.session import Database, is_unavailable
from infra.db.tasks import timeline
from infra.db.tasks.transitions import Cause
from infra.db.transactions import collect_attempt, judge_nodes
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway
from infra.temporal.open_workflows import NODE, TASK, OpenWorkflows, StuckRun
from infra.temporal.task_workflows import task_workflow_id
from workflows.domain.system_actor import SystemActor
from workflows.messages import TaskInput

EVERY_S, SHARE, MOST_S = 5.0, 300, 30.0
"""The shortest pause, the pause as a multiple of the last search's duration, and the longest pause. Temporal's
development server reads every open workflow: 36 ms of CPU where 100,000 tasks wait."""
LIMIT = 500
"""The most stuck workflows that one search finds."""
REPLACED_AGAIN_S = 3600.0
"""The shortest time between two new runs of a workflow. A new run that gets stuck too needs other code."""
NOTE = "工作流无法推进，由监控以新的运行取代"

log = logging.getLogger(__name__)


class StuckWorkflows:
    """Searches every five to thirty seconds, in the background."""

    def __init__(self, database: Database, temporal: TemporalGateway, workflows: OpenWorkflows) -> None:
        self._run = database.run
        self._temporal = temporal
        self._workflows = workflows
        self._next = 0.0
        self._replaced: TTLCache[str, bool] = TTLCache(math.inf, REPLACED_AGAIN_S, timer=time.monotonic)  # by id
        self._under_way: asyncio.Task[None] | None = None

    async def find(self) -> None:
        """Begin a search in the background if one is due and none is in progress."""
        now = time.monotonic()
        if now < self._next or (self._under_way is not None and not self._under_way.done()):
            return
        self._next = now + EVERY_S
        self._under_way = asyncio.create_task(self._find())

    def stop(self) -> None:
        """Cancel a search that is in progress; the next leader begins another."""
        if self._under_way is not None:
            self._under_way.cancel()

    async def _find(self) -> None:
        began = time.monotonic()
        try:
            found = await self._workflows.stuck(LIMIT)
            self._next = began + min(max(EVERY_S, SHARE * (time.monotonic() - began)), MOST_S)
            if found:
                await self._run(lambda c: _record(c, found))
            await one_by_one(self._help, found, _not_replaced, is_away=_is_away)
        except Exception as error:  # the next search starts again
            if not _is_away(error):
                log.exception("the search for stuck workflows failed")

    async def _help(self, run: StuckRun) -> None:
        row = await self._collected(run) if run.workflow == TASK else None
        if not self._is_due(run.workflow_id):
            return
        try:
            await self._replace(run, row)
        except Exception as error:
            if _is_away(error):
                self._replaced.pop(run.workflow_id, None)  # the next search tries again
            raise

    async def _replace(self, run: StuckRun, row: Drifted | None) -> None:
        if row is not None:
            await self._run(
                lambda c: timeline.note(c, Cause(row.task_id, row.attempt, row.gpu_id, SystemActor.RECONCILER, NOTE))
            )
        with suppress(NoSuchWorkflow):
            await self._workflows.terminate(run)
        if row is not None:
            await self._temporal.start_task(TaskInput.of(row), row.traceparent, again=True)
        elif run.workflow == NODE:
            await self._workflows.run_node_again(run)
        # the monitor is run again by its schedule, a webhook by the leader, and a task without a row is none

    async def _collected(self, run: StuckRun) -> Drifted | None:
        """The task, after its closed attempt was collected, or None if it has no row."""
        task_id = run.workflow_id.removeprefix(task_workflow_id(""))
        row = await self._run(lambda c: drift.stuck(c, task_id))
        attempt = None if row is None else row.attempt
        if attempt is not None:
            await self._run(lambda c: collect_attempt.collect(c, task_id, attempt, actor=SystemActor.RECONCILER))
            await self._temporal.deliver(await judge_nodes.review(self._run, task_id))
        return row

    def _is_due(self, workflow_id: str) -> bool:
        """Whether a new run may begin, because the last one did not begin lately; notes that one begins now."""
        is_due = workflow_id not in self._replaced
        if is_due:
            self._replaced[workflow_id] = True
        return is_due


def _is_away(error: Exception) -> bool:
    return isinstance(error, TemporalAway) or is_unavailable(error)


def _not_replaced(run: StuckRun, error: Exception) -> None:
    log.error("could not replace stuck workflow %s", run.workflow_id, exc_info=error)


async def _record(connection: Connection, found: list[StuckRun]) -> None:
    """Keep their number for health, and raise an alert that names one."""
    causes = sorted(frozenset().union(*(one.causes for one in found)))
    await health.keep_stuck(connection, len(found))
    await alerts.raise_alert(connection, alerts.stuck([one.workflow_id for one in found], causes))

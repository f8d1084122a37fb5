"""Telling workflows that their tasks were ended from outside, where the notification after the commit was lost."""

from __future__ import annotations

import asyncio

from infra.db.repair import drift
from infra.db.session import Database
from infra.db.tasks import outbox
from infra.db.tasks.outbox import UntoldEnd
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway
from infra.temporal.open_workflows import OpenWorkflows, Standing
from workflows.messages import TaskInput

AT_ONCE = 200
"""Workflows told in one turn: each costs the server a workflow task."""
NOT_TOLD = frozenset({Standing.CUT_OFF, Standing.ABSENT})
"""Runs that heard nothing of the end: a person has terminated the last one, or there was none."""


class EndedTasks:
    """Asks the workflows to cancel. One that has closed as its task did is not affected."""

    def __init__(self, database: Database, temporal: TemporalGateway, workflows: OpenWorkflows) -> None:
        self._database = database
        self._temporal = temporal
        self._workflows = workflows

    async def tell(self) -> None:
        """Tell the first of those that have not been told."""
        ends = await self._database.run(lambda c: outbox.untold_ends(c, AT_ONCE))
        told = await asyncio.gather(*map(self._told, ends))
        await self._database.run(lambda c: outbox.clear_ends(c, [one for one in told if one]))

    async def _told(self, end: UntoldEnd) -> str | None:
        try:
            if end.was_on_node and await self._workflows.standing(end.task_id) in NOT_TOLD:
                await self._run_again(end.task_id)
            await self._temporal.end(end.task_id)
        except NoSuchWorkflow:
            return end.task_id  # it ended before its workflow was started, which tells it in that case
        except TemporalAway:
            return None
        return end.task_id

    async def _run_again(self, task_id: str) -> None:
        """Start a new run, which stops the attempt on its node."""
        for row in await self._database.run(lambda c: drift.ended(c, [task_id], age_s=0.0)):
            await self._temporal.start_task(TaskInput.of(row), row.traceparent, again=True)

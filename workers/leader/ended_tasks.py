"""Notify workflows that their tasks were ended from outside, where the notification after the commit was lost."""

from __future__ import annotations

import asyncio

from infra.db.repair import drift
from infra.db.session import Database
from infra.db.tasks import outbox
from infra.db.tasks.outbox import PendingEnd
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.gateway import TemporalGateway
from infra.temporal.open_workflows import OpenWorkflows, RunStatus
from workflows.messages import TaskInput

AT_ONCE = 200
"""Workflows notified in one turn: each costs the server a workflow task."""
UNREACHED = frozenset({RunStatus.CUT_OFF, RunStatus.ABSENT})
"""Runs that a notification cannot reach: a person has terminated the last one, or there was none."""


class EndedTasks:
    """Asks the workflows to cancel. One that has closed as its task did is not affected."""

    def __init__(self, database: Database, temporal: TemporalGateway, workflows: OpenWorkflows) -> None:
        self._database = database
        self._temporal = temporal
        self._workflows = workflows

    async def notify(self) -> None:
        """Notify the first of those whose notification is pending."""
        ends = await self._database.single(lambda c: outbox.pending_ends(c, AT_ONCE))
        notified = await asyncio.gather(*map(self._notify, ends))
        await self._database.single(lambda c: outbox.clear_ends(c, [one for one in notified if one]))

    async def _notify(self, end: PendingEnd) -> str | None:
        """The task's id if no notification is pending any more, or None if Temporal is away."""
        try:
            if end.was_on_node and await self._workflows.run_status(end.task_id) in UNREACHED:
                await self._run_again(end.task_id)
            await self._temporal.end(end.task_id)
        except NoSuchWorkflow:
            return end.task_id  # it ended before its workflow was started, which enters the end again
        except TemporalAway:
            return None
        return end.task_id

    async def _run_again(self, task_id: str) -> None:
        """Start a new run, which stops the attempt on its node."""
        for row in await self._database.single(lambda c: drift.ended(c, [task_id], age_s=0.0)):
            await self._temporal.start_task(TaskInput.of(row), row.traceparent, again=True)

"""Whether Temporal agrees: one workflow per task, closed if and only if the row is final, with the same status.

The list of workflows is one read of all of them, and lags. What looks wrong in it is read again by itself,
Temporal first and then the row, before it counts.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecutionStatus

from infra.db.repair import verify
from infra.db.repair.overdue import OVERDUE_S
from infra.db.repair.verify import Finding, TaskRow
from infra.db.session import Database
from infra.temporal import executions
from infra.temporal.executions import Execution
from workflows.domain.task import FAILURE_TYPES, TERMINAL, EndReason

AT_ONCE = 16


@dataclass
class Agreement:
    """Collects disagreements."""

    client: Client
    database: Database
    settled: bool
    retention: timedelta
    keeps_tasks: timedelta
    doubled: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unknown: int = 0

    async def check(self, tasks: Mapping[str, TaskRow]) -> list[Finding]:
        """The findings about all tasks of a snapshot, and about all workflows that have no task."""
        runs: dict[str, list[Execution]] = defaultdict(list)
        async for one in executions.every(self.client):
            runs[one.task_id].append(one)
        for task_id, listed in runs.items():
            if (
                task_id not in tasks or not tasks[task_id].repaired
            ):  # the reconciler may have run it again: the last counts
                await self._count(task_id, [one for one in listed if one.counts])
        turns = asyncio.Semaphore(AT_ONCE)

        async def look_again(task_id: str) -> None:
            async with turns:
                await self._look_again(task_id)

        doubtful = {task_id for task_id in {*tasks, *runs} if not _agree(tasks.get(task_id), runs.get(task_id, []))}
        of_old = {task_id for task_id in doubtful - runs.keys() if self._is_past_retention(tasks[task_id])}
        for task_id in of_old:  # nearly all tasks of a system that has run for long: Temporal is asked about none
            self._missing(task_id, tasks[task_id])
        await asyncio.gather(*map(look_again, doubtful - of_old))
        return [
            Finding.of(1, "a task has exactly one workflow, and a workflow a task", len(runs), self.doubled),
            Finding.of(
                3,
                "a workflow is closed if and only if its row is, both with one status",
                len(tasks),
                self.broken,
                self.unknown,
            ),
        ]

    async def _count(self, task_id: str, listed: list[Execution]) -> None:
        """Count the runs that exist at the same time: a list that lags may show one that has been continued as
        new."""
        if len(listed) > 1:
            looked = [await executions.describe(self.client, task_id, one.run_id) for one in listed]
            count = sum(one is not None and one.counts for one in looked)
            if count > 1:
                self.doubled.append(f"{task_id} has {count} workflows")

    async def _look_again(self, task_id: str) -> None:
        run = await executions.describe(self.client, task_id)
        found = await self.database.run(lambda c: verify.tasks(c, task_id))
        if not found:
            if run is not None and self._is_forgotten(run):
                self.unknown += 1
            elif run is not None:
                self.doubled.append(f"{task_id} has a workflow and no row")
            return
        (row,) = found
        if run is None:
            self._missing(task_id, row)
        elif run.runs:
            if row.status in TERMINAL and (self.settled or await self._should_have_closed(row)):
                self.broken.append(f"{task_id} is {row.status}, its workflow runs")
        elif run.ended_by_itself or (run.was_cancelled and row.status in TERMINAL):
            await self._compare(row, run)
        else:
            self._cut_off(task_id, row, run.status.name)

    async def _compare(self, row: TaskRow, run: Execution) -> None:
        """Whether a run has closed as its task ended."""
        says = await executions.outcome(self.client, row.task_id, run.run_id)
        status = str(EndReason.CANCELLED) if row.cancelled else row.status
        if says != status:
            self.broken.append(f"{row.task_id} is {status}, its workflow ended with {says}")

    async def _should_have_closed(self, row: TaskRow) -> bool:
        if row.ended_s <= OVERDUE_S:
            return False
        return row.ended_s > await self.database.run(lambda c: verify.closes_within_s(c, row.task_id))

    def _is_forgotten(self, run: Execution) -> bool:
        """Whether the row may be gone by its retention, which counts from shortly before the workflow closes."""
        if run.closed_at is None:
            return False
        return datetime.now(UTC) - run.closed_at > self.keeps_tasks - timedelta(seconds=OVERDUE_S)

    def _is_past_retention(self, row: TaskRow) -> bool:
        """Whether Temporal may have forgotten the workflow."""
        return row.status in TERMINAL and row.ended_s > self.retention.total_seconds()

    def _missing(self, task_id: str, row: TaskRow) -> None:
        """Note a task without a workflow, unless Temporal may have forgotten it, or the start is not due."""
        if row.unbegun:
            return
        if self._is_past_retention(row):
            self.unknown += 1
        elif row.started or row.status in TERMINAL or self.settled:
            self.broken.append(f"{task_id} is {row.status} and has no workflow")

    def _cut_off(self, task_id: str, row: TaskRow, how: str) -> None:
        """A run was terminated, perhaps by an operator: the reconciler starts another one unless the row has ended."""
        if row.status in TERMINAL:
            self.unknown += 1
        else:
            self.broken.append(f"{task_id} is {row.status}, its workflow is {how}")


async def check(
    client: Client, database: Database, tasks: Mapping[str, TaskRow], *, settled: bool, keeps_tasks: timedelta
) -> list[Finding]:
    """Compare Temporal with the tasks of a snapshot. Raises RPCError if it cannot be read."""
    agreement = Agreement(client, database, settled, await executions.retention(client), keeps_tasks)
    return await agreement.check(tasks)


def _agree(row: TaskRow | None, listed: list[Execution]) -> bool:
    """Whether the list leaves no doubt."""
    counting = [one for one in listed if one.counts]
    if row is not None and row.cancelled:
        return not counting and any(one.was_cancelled for one in listed)
    if row is None or len(counting) != 1:
        return False
    (run,) = counting
    return row.status not in TERMINAL if run.runs else _ended_as(run) == row.status


def _ended_as(run: Execution) -> str | None:
    """The status that a closed run shows, or None if it does not fit how the run closed."""
    failed = run.status is WorkflowExecutionStatus.FAILED
    return run.shown if failed == (run.shown in FAILURE_TYPES) else None

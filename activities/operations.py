"""The step of a bulk operation: one page of its tasks (ADR 0041)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.beating import beating
from infra.db.access import callers
from infra.db.one_by_one import one_by_one
from infra.db.session import Database, is_unavailable
from infra.db.slots.eligibility import Wanted
from infra.db.slots.forecast import Forecast
from infra.db.tasks import operations, outbox, queries
from infra.db.tasks.new_task import NewTask
from infra.db.tasks.operations import Operation, PagedTask
from infra.db.tasks.queries import Original
from infra.db.transactions import process_operation, retry_task
from infra.db.transactions.create_task import Created
from infra.db.transactions.process_operation import Room
from infra.settings import Settings
from infra.temporal.access import TemporalAway
from infra.temporal.gateway import TemporalGateway
from workflows.domain import shares
from workflows.domain.errors import DomainError, NotInThisState
from workflows.domain.operation import OperationKind, OperationState
from workflows.messages import OperationInput, OperationProgress, TaskInput
from workflows.notifications import Notifications

PAGE = {OperationKind.CANCEL: 500, OperationKind.RETRY: 50}
"""Tasks of a page: cancels of what waits are one statement, retries are a transaction each."""
PAGES_AT_ONCE = 6
"""Pages that a worker processes at once, over all operations: the rest of its capacity is for other activities."""
BUSY_PAUSE = timedelta(seconds=1)
"""Pause before a page that found the worker busy is tried again. It waits in Temporal, and occupies no worker."""
AT_ONCE = 8
"""Transactions at the same time that end tasks which do not wait."""


class OperationSteps:
    """Implements `workflows.ports.OperationActivities`."""

    def __init__(self, database: Database, temporal: TemporalGateway, forecast: Forecast, settings: Settings) -> None:
        self._run = database.run
        self._temporal = temporal
        self._forecast = forecast
        self._settings = settings
        self._pages = 0

    @activity.defn(name="work_off_page")
    async def work_off_page(self, given: OperationInput) -> OperationProgress:
        """Change the tasks of the next page. Repeating it changes no task twice, and counts none twice.

        Raises ApplicationError if this worker is busy with others.
        """
        if self._pages >= PAGES_AT_ONCE:
            benign = ApplicationErrorCategory.BENIGN
            raise ApplicationError("busy", type="Busy", next_retry_delay=BUSY_PAUSE, category=benign)
        self._pages += 1
        try:
            return await self._next_page(given)
        finally:
            self._pages -= 1

    async def _next_page(self, given: OperationInput) -> OperationProgress:
        operation = await self._get(given)
        if operation is None:
            return OperationProgress(OperationState.DONE, 0, 0, 0)
        if operation.state == OperationState.RUNNING and await self._run(
            lambda c: callers.is_revoked(c, operation.lineage)
        ):
            activity.logger.warning("%s ends: %s is revoked", operation.operation_id, operation.key_id)
            await self._run(lambda c: operations.finish(c, operation.operation_id))
        elif operation.state == OperationState.RUNNING:
            async with beating():
                await self._process(operation)
        return (await self._get(given) or operation).progress

    async def _get(self, given: OperationInput) -> Operation | None:
        return await self._run(lambda c: operations.get(c, given.operation_id))

    async def _process(self, operation: Operation) -> None:
        size = PAGE[operation.kind]
        turns = await self._run(lambda c: operations.page(c, operation, size))
        is_whole = await (self._cancel if operation.kind == OperationKind.CANCEL else self._retry)(operation, turns)
        if not is_whole:
            return  # the page is repeated
        if len(turns) == size:
            await self._run(lambda c: operations.pass_by(c, operation.operation_id, turns[-1].display_id))
        else:
            await self._run(lambda c: operations.finish(c, operation.operation_id))

    async def _cancel(self, operation: Operation, turns: Sequence[PagedTask]) -> bool:
        """Cancel the waiting tasks in one statement, and the others one by one. It waits for a row that is held.

        Returns False if a task has got a slot since: it may fit no more.
        """
        has_moved = not await self._cancel_waiting(operation, [turn.task_id for turn in turns if turn.waits])
        others = [turn.task_id for turn in turns if not turn.waits]
        cancel = partial(self._cancel_one, operation)
        await one_by_one(cancel, others, _not_cancelled, at_once=AT_ONCE, is_away=is_unavailable)
        return not has_moved

    async def _cancel_waiting(self, operation: Operation, task_ids: Sequence[str]) -> bool:
        """End the tasks in one statement. If that fails, end each in its own, and give up only a row that cannot be
        ended.

        Returns whether all the others were still waiting when they were ended.
        """
        if not task_ids:
            return True
        try:
            return await self._end_waiting(operation, task_ids)
        except Exception as error:
            if is_unavailable(error):
                raise
            activity.logger.warning("could not cancel %d waiting tasks at once: %s", len(task_ids), error)
        each = [[task_id] for task_id in task_ids]
        end = partial(self._end_waiting, operation)
        waited = await one_by_one(end, each, _not_cancelled, at_once=AT_ONCE, is_away=is_unavailable)
        return all(one for _, one in waited)

    async def _end_waiting(self, operation: Operation, task_ids: Sequence[str]) -> bool:
        """End the tasks in one statement. Returns whether all were still waiting."""
        work = partial(process_operation.cancel_waiting, operation=operation, task_ids=task_ids)
        return len(await self._run(work)) == len(task_ids)

    async def _cancel_one(self, operation: Operation, task_id: str) -> None:
        if (await self._run(lambda c: process_operation.cancel(c, operation, task_id))).changed:
            await self._temporal.deliver(Notifications(ended=[task_id]))

    async def _retry(self, operation: Operation, turns: Sequence[PagedTask]) -> bool:
        started = [task_id for turn in turns if (task_id := await self._retry_one(operation, turn)) is not None]
        if started:
            await self._run(lambda c: outbox.clear(c, started))
        return True

    async def _retry_one(self, operation: Operation, turn: PagedTask) -> str | None:
        """Returns the new task, if its workflow is started. The reconciler starts the others.

        A row that cannot be retried holds up no other one.
        """
        try:
            return await self._retried(operation, turn)
        except Exception as error:
            if is_unavailable(error):
                raise
            log = activity.logger.info if isinstance(error, DomainError) else activity.logger.warning
            log("%s is not retried: %s", turn.task_id, error)
        await self._run(lambda c: process_operation.give_up(c, operation, turn))
        return None

    async def _retried(self, operation: Operation, turn: PagedTask) -> str | None:
        original = await self._run(lambda c: queries.original(c, turn.task_id))
        if original is None or not _may_retry(operation, original):
            raise NotInThisState
        retry_task.check(original)
        task = retry_task.again(turn.task_id, original, operation.by, f"{operation.operation_id}\n{turn.task_id}")
        room = await self._room(task, original)
        created = await self._run(lambda c: process_operation.retry(c, operation, turn, task, room))
        await self._temporal.deliver(Notifications(grants=list(created.others)))
        return await self._start(replace(task, task_id=created.row.task_id), created)

    async def _room(self, task: NewTask, original: Original) -> Room:
        outlook = await self._forecast.for_new(Wanted.of_new(task))
        weight = shares.weight(task.flow, task.app, original.granted_apps, self._settings.weight_of)
        return Room(outlook, weight, self._settings.max_waiting, not self._temporal.away)

    async def _start(self, task: NewTask, created: Created) -> str | None:
        started = TaskInput.of(task, waits=created.waits, grant=created.grant)
        try:
            await self._temporal.start_task(started, task.traceparent)
        except TemporalAway as error:
            activity.logger.warning("%s will be started by the reconciler: %s", task.task_id, error)
            return None
        return task.task_id


def _may_retry(operation: Operation, original: Original) -> bool:
    """Whether the caller's key allows it."""
    limits = operation.by.limits
    return limits.priority(original.priority, original.priority) is not None and limits.allow_app(original.app)


def _not_cancelled(task: object, error: Exception) -> None:
    activity.logger.warning("could not cancel %s: %s", task, error)

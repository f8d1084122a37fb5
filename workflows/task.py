"""A task's life: wait for a slot, dispatch, wait for the report, collect; again until it has ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

from temporalio import workflow
from temporalio.exceptions import (
    ApplicationError,
    ApplicationErrorCategory,
    CancelledError,
    FailureError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from workflows import legacy, policies, steps
    from workflows.domain.attempt import NODE_STILL_RUNS_IT, Outcome
    from workflows.domain.limits import MAX_ATTEMPT
    from workflows.domain.task import FAILURE_TYPES, TERMINAL, TaskStatus
    from workflows.messages import (
        AttemptRef,
        Collected,
        DispatchResult,
        Grant,
        Selection,
        TaskInput,
        TaskState,
        TaskSummary,
    )
    from workflows.shown import WAITING, Shown
    from workflows.signals import INTERNAL, of_its_inputs

ENDS_AS_ITS_TASK = "ends-as-its-task"
WAITS_FOR_ITS_GRANT = "waits-for-its-grant"
CANCEL_CANCELS = "cancel-cancels"
STOPS_BESIDE = "stops-beside"


@workflow.defn(name="TaskWorkflow")
class TaskWorkflow(legacy.Updates):
    """One task, `task-{taskId}`. What is true of it is in its row; this decides what happens next."""

    @workflow.init
    def __init__(self, task: TaskInput) -> None:
        self._task = task
        self._granted = task.grant
        self._settled = task.attempt  # the highest attempt known to be closed
        self._attempt = task.attempt
        self._look = False
        self._waits = task.waits  # the row says so since the creation; later it has to be asked
        self._shown = Shown(task.attempt)
        self._stopping: list[asyncio.Task[None]] = []  # on nodes of earlier attempts

    @workflow.run
    async def run(self, task: TaskInput) -> TaskSummary:
        """Ends once the row is terminal, and as the row did: returns for COMPLETED, otherwise raises ApplicationError.

        Where it was asked to cancel, it cancels the task, and ends Canceled if the task has not ended otherwise.
        """
        try:
            return await self._live()
        except (asyncio.CancelledError, FailureError) as error:
            asked = is_cancelled_exception(error) and workflow.cancellation_reason() is not None
            if not asked or not workflow.patched(CANCEL_CANCELS):
                raise
        return await self._cancel()

    async def _live(self) -> TaskSummary:
        while True:
            slot = await self._slot()
            if slot.grant is not None:
                grant, ended = slot.grant, await self._run_attempt(slot.grant)
            elif slot.settled is not None:
                grant, ended = slot.settled, await steps.collect(self._task.task_id, slot.settled.attempt, None)
            else:
                return await self._found_ended(slot)
            before, self._attempt = self._attempt, grant.attempt
            self._shown.status(ended.status, None if ended.status is TaskStatus.QUEUED else grant.gpu_id)
            if ended.cancelled:
                await self._until_asked_to_cancel()
            if ended.status in TERMINAL:
                self._shown.details(f"{ended.status} on {grant.gpu_id}, attempt {grant.attempt}")
                await self._stop(grant if ended.outcome in NODE_STILL_RUNS_IT else None)
                summary = TaskSummary(ended.status, grant.attempt, grant.gpu_id)
                return _ended(summary, f"attempt {grant.attempt} on {grant.gpu_id}: {ended.outcome or ended.status}")
            if ended.outcome is None and workflow.patched("open-again"):
                self._reopen(grant.attempt, legacy.attempt_before(grant.attempt, before))
            await self._pause(grant, ended)
            self._renew()

    async def _found_ended(self, found: Selection) -> TaskSummary:
        """End at once if the task has already ended or has no row."""
        if found.cancelled:
            await self._until_asked_to_cancel()
        await self._stop(found.running)
        if workflow.patched(ENDS_AS_ITS_TASK):
            self._shown.status(found.status or TaskStatus.FAILED, None)
        how = f"found {found.status}" if found.status else "it has no row"
        return _ended(TaskSummary(found.status or TaskStatus.FAILED, self._attempt), how)

    async def _until_asked_to_cancel(self) -> NoReturn:
        """Wait for the request to cancel, which is on its way: without it a run cannot end Canceled."""
        self._shown.details("cancelled")
        await workflow.wait_condition(lambda: False)
        raise AssertionError("unreachable")

    async def _cancel(self) -> TaskSummary:
        """Cancel the task, by REST or by a person here, and stop what its node may still run."""
        found = await steps.cancel(self._task.task_id)
        self._shown.status(found.status or TaskStatus.FAILED, found.running.gpu_id if found.running else None)
        await self._stop(found.running)
        if found.status is None or found.cancelled:
            self._shown.details("cancelled")
            raise CancelledError("the task was cancelled")
        return _ended(TaskSummary(found.status, found.attempt), f"found {found.status}")

    @workflow.query(description="Status, last attempt and its node, and what the task waits for.")
    def state(self) -> TaskState:
        """The known state of the task."""
        return self._shown.state

    @workflow.signal(description=INTERNAL)
    @of_its_inputs
    def granted(self, grant: Grant) -> None:
        """A slot was claimed for this task while it waited. An impossible attempt number is ignored."""
        if not 0 < grant.attempt <= MAX_ATTEMPT:
            return
        if self._granted is None or grant.attempt > self._granted.attempt:
            self._granted = grant

    @workflow.signal(description=INTERNAL)
    @of_its_inputs
    def settled(self, attempt: int) -> None:
        """The attempt is closed: collect it."""
        self._settled = max(self._settled, attempt)

    @workflow.signal(description="Look for a slot again, or for the end of the task. Input: none")
    @of_its_inputs
    def look(self) -> None:
        """Read the row again, in any state."""
        self._look = True

    async def _slot(self) -> Selection:
        """The slot that it already has; otherwise claim one, or wait for one to be assigned."""
        waits, self._waits = self._waits, False
        if (grant := self._grant()) is not None and (
            self._task.grant is not None or (self._task.waits and workflow.patched("granted-first"))
        ):
            return Selection(TaskStatus.QUEUED, grant)
        is_enqueued = waits and workflow.patched(WAITS_FOR_ITS_GRANT)
        while True:
            self._look = False
            if not is_enqueued:
                selection = await steps.select_slot(self._task.task_id)
                if not selection.waiting:
                    return selection
            is_enqueued = False
            self._shown.details(WAITING.format(task_id=self._task.task_id))
            if await self._heard() and (grant := self._grant()) is not None:
                return Selection(TaskStatus.QUEUED, grant)
            self._renew()

    async def _heard(self) -> bool:
        """Wait, without a timer, for a grant, or for a sign that the row says something else.

        A lost grant is repeated by the reconciler.
        """
        if not workflow.patched(WAITS_FOR_ITS_GRANT):
            return await legacy.heard_in_time(lambda: self._grant() is not None or self._look)
        await workflow.wait_condition(lambda: self._grant() is not None or self._look or self._settled > self._attempt)
        self._settled = min(self._settled, self._attempt)  # of an attempt that was not granted here: the row says which
        return True

    def _grant(self) -> Grant | None:
        """The grant that it started with, or was signalled; one of an attempt that has been run does not count."""
        return self._granted if self._granted is not None and self._granted.attempt > self._attempt else None

    def _reopen(self, attempt: int, before: int) -> None:
        """Discard notifications for an attempt that the database does not know as closed.

        `before` is the last attempt that was known before it.
        """
        self._attempt = before
        self._shown.attempt(before, None)
        self._settled = min(self._settled, attempt - 1)
        if self._granted is not None and self._granted.attempt <= attempt:
            self._granted = None

    async def _run_attempt(self, grant: Grant) -> Collected:
        self._shown.attempt(grant.attempt, grant.gpu_id)
        self._shown.details(f"dispatching attempt {grant.attempt} to {grant.gpu_id}")
        dispatched = await steps.dispatch(self._ref(grant))
        if dispatched.delivery is DispatchResult.CLOSED:
            return await steps.collect(self._task.task_id, grant.attempt, None)
        if dispatched.delivery is DispatchResult.UNCLEAR:
            ended = await steps.collect(self._task.task_id, grant.attempt, Outcome.UNREACHABLE)
            if ended.outcome is not None:
                return ended
            # otherwise the node itself has said meanwhile that it runs it
        self._shown.status(TaskStatus.PROCESSING, grant.gpu_id)
        self._shown.details(f"running on {grant.gpu_id}, attempt {grant.attempt}")
        return await self._report(grant.attempt, dispatched.watched_ms)

    async def _report(self, attempt: int, watched_ms: int) -> Collected:
        """Wait for the attempt to be settled; at its deadline settle it here. One timer per attempt.

        `watched_ms` of its time have passed within the dispatch.
        """
        timeout = timedelta(milliseconds=self._task.timeout_ms - watched_ms)
        try:
            await workflow.wait_condition(
                lambda: self._settled >= attempt, timeout=timeout, timeout_summary=f"deadline of attempt {attempt}"
            )
        except TimeoutError:
            return await steps.collect(self._task.task_id, attempt, Outcome.TIMED_OUT)
        return await steps.collect(self._task.task_id, attempt, None)

    async def _pause(self, grant: Grant, ended: Collected) -> None:
        """Back off before the next attempt. Meanwhile the node stops what it may still be running."""
        self._shown.details(f"attempt {grant.attempt} on {grant.gpu_id}: {ended.outcome}; next in {ended.pause_s:g} s")
        waits = []
        if ended.outcome in NODE_STILL_RUNS_IT:
            stopping = asyncio.create_task(steps.stop(self._ref(grant), grant.gpu_id))
            if workflow.patched(STOPS_BESIDE):
                self._stopping.append(stopping)
            else:
                waits.append(stopping)
        if ended.pause_s > 0:
            waits.append(asyncio.create_task(workflow.sleep(ended.pause_s, summary="backoff")))
        if waits:
            await asyncio.gather(*waits)

    async def _stop(self, last: Grant | None) -> None:
        """Stop the last attempt on its node, and wait for earlier ones: the end of the run would cancel their stops."""
        if last is not None:
            await steps.stop(self._ref(last), last.gpu_id)
        await workflow.wait_condition(self._have_stopped)

    def _have_stopped(self) -> bool:
        return all(one.done() for one in self._stopping)

    def _ref(self, grant: Grant) -> AttemptRef:
        return AttemptRef(self._task.task_id, grant.attempt)

    def _renew(self) -> None:
        """A task that waits for weeks starts a fresh history; its row carries all there is to know."""
        if policies.history_is_long(workflow.info()) and self._grant() is None and self._have_stopped():
            workflow.continue_as_new(replace(self._task, attempt=self._attempt, waits=False, grant=None))


def _ended(summary: TaskSummary, how: str) -> TaskSummary:
    """Close as the row says. `how` holds only ids, enums and numbers: no node's words. Raises ApplicationError."""
    kind = FAILURE_TYPES.get(summary.status)
    if kind is None or not workflow.patched(ENDS_AS_ITS_TASK):
        return summary
    raise ApplicationError(how, type=kind, non_retryable=True, category=ApplicationErrorCategory.BENIGN)

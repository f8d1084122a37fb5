"""The activities as a task's workflow calls them: which kind each is, how long it may take, how it is repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows import policies
    from workflows.domain.attempt import Outcome
    from workflows.messages import AttemptRef, Cancelled, Collected, CollectInput, Dispatched, Selection
    from workflows.ports import TaskActivities

A = TypeVar("A")
R = TypeVar("R")


async def _transaction(step: Callable[[Any, A], Awaitable[R]], argument: A, summary: str | None = None) -> R:
    """A step that is one short transaction, as a local activity."""
    return await workflow.execute_local_activity_method(
        step,
        argument,
        start_to_close_timeout=policies.DATABASE_STEP,
        retry_policy=policies.DATABASE_RETRY,
        summary=summary,
    )


async def select_slot(task_id: str) -> Selection:
    """Claim a slot, or enqueue the task."""
    return await _transaction(TaskActivities.select_slot, task_id)


async def dispatch(ref: AttemptRef) -> Dispatched:
    """Send an attempt to its node: once as a local activity, then as a regular one that is repeated."""
    summary = f"attempt {ref.attempt}"
    try:
        return await workflow.execute_local_activity_method(
            TaskActivities.dispatch,
            ref,
            schedule_to_close_timeout=policies.FIRST_DISPATCH,
            retry_policy=RetryPolicy(maximum_attempts=1),
            summary=summary,
        )
    except FailureError as error:  # a local activity's own error comes bare, not within an ActivityError
        if is_cancelled_exception(error):
            raise
        workflow.logger.info("dispatch of attempt %s is unclear, repeating it", ref.attempt)
    return await workflow.execute_activity_method(
        TaskActivities.dispatch,
        ref,
        start_to_close_timeout=policies.DISPATCH_TRY,
        retry_policy=policies.DISPATCH_RETRY,
        summary=summary,
    )


async def collect(task_id: str, attempt: int, close_as: Outcome | None) -> Collected:
    """Collect an attempt; with `close_as`, close it first if it is due."""
    request = CollectInput(task_id, attempt, close_as)
    return await _transaction(TaskActivities.collect, request, summary=f"attempt {attempt}")


async def stop(ref: AttemptRef, gpu_id: str) -> None:
    """Stop an attempt on its node. A node that cannot be reached in time is asked to stop it when it is back."""
    try:
        await workflow.execute_activity_method(
            TaskActivities.stop_on_node,
            ref,
            start_to_close_timeout=policies.STOP_TRY,
            schedule_to_close_timeout=policies.STOP_TIMEOUT,
            retry_policy=policies.STOP_RETRY,
            summary=f"stop attempt {ref.attempt} on {gpu_id}",
        )
    except ActivityError:
        workflow.logger.info("could not stop attempt %s on %s", ref.attempt, gpu_id)


async def cancel(task_id: str) -> Cancelled:
    """End the task as cancelled, unless it has ended."""
    return await _transaction(TaskActivities.cancel_task, task_id)

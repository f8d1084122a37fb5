"""Creating a task that is fully described: its row, its slot, its workflow. New tasks and retries share it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from api.dependencies import Context
from api.http.envelope import ok
from api.schemas.create_task import TaskCreated
from infra import telemetry
from infra.db.ops.api_keys import Caller
from infra.db.tasks.identity import new_task_id as new_task_id
from infra.db.transactions import create_task as transaction
from infra.db.transactions.create_task import NO_LIMITS, Created, Limits, NewTask
from infra.temporal.notifications import Notifications
from workflows.domain import shares
from workflows.messages import TaskInput


def new_trace() -> str:
    """The trace of a new task: that of the request, if it has one."""
    return telemetry.current_traceparent() or telemetry.new_traceparent()


def weight_of(context: Context, flow: str | None, app: str, apps: Container[str] | None) -> float:
    """The weight of a flow. `apps` are those granted to the key whose share it is."""
    return shares.weight(flow, app, apps, context.settings.weight_of)


async def create(
    context: Context,
    by: Caller,
    task: NewTask,
    *,
    apps: Container[str] | None,
    max_waiting: int | None,
    limits: Limits = NO_LIMITS,
) -> dict[str, Any]:
    """Create the task and start its workflow. `apps` are those granted to the key whose share it takes.

    Raises what the transaction raises.
    """
    capacity = await context.forecast.of(task.task_type, vip=task.queue_class > 0)
    milestones = await context.forecast.milestones(capacity.pool)
    weight = weight_of(context, task.flow, task.app, apps)
    created = await context.database.run(
        lambda c: transaction.create(
            c,
            task,
            capacity,
            weight=weight,
            by=by,
            max_waiting=max_waiting,
            limits=limits,
            claims_slot=not context.temporal.away,  # else it would hold a slot that nobody dispatches to
            milestones=milestones,
        )
    )
    _learn(context, task, created, capacity.pool)
    await context.deliver(Notifications(grants=list(created.others)))
    if created.unstarted:
        await _start(context, replace(task, task_id=created.row.task_id), created)
    return ok(TaskCreated.of(created.row))


def _learn(context: Context, task: NewTask, created: Created, pool: list[int]) -> None:
    """Pass on what a creation has shown: to the trace, and to the next creations."""
    telemetry.describe(task_id=created.row.task_id, task_type=task.task_type)
    if created.grant is not None:
        telemetry.describe(task_attempt=created.grant.attempt, gpu_id=created.grant.gpu_id)
    if created.far_back:
        context.forecast.found_long(pool)


async def _start(context: Context, task: NewTask, created: Created) -> None:
    """Start the workflow: at once, or in the background if it waits anyway."""
    started = TaskInput.of(task, waits=created.waits, grant=created.grant)
    if created.waits:
        context.starter.start_later(started, task.traceparent)
    else:
        await context.starter.start(started)

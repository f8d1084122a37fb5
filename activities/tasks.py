"""The steps of a task's life other than its dispatch: find a slot, collect an attempt, stop one on its node."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.node_answers import end_on_node, stop
from infra import telemetry
from infra.db.attempts import queries as attempt_queries
from infra.db.connection import Connection
from infra.db.session import Database
from infra.db.slots.search import NoSlot, Undecided
from infra.db.transactions import (
    cancel_task,
    claim_slot,
    collect_attempt,
    end_at_limit,
    judge_nodes,
    settle_attempt,
)
from infra.db.transactions.claim_slot import PastLimit, TaskEnded, Uncollected
from infra.nodes.client import NodeClient
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import STOPPING_S, UNSAID, End, Outcome, run_id
from workflows.domain.errors import ForbiddenAddress
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import TERMINAL, EndReason
from workflows.messages import AttemptRef, Cancelled, Collected, CollectInput, Grant, Selection
from workflows.notifications import Notifications

NO_SLOT = "no slot is free"
ASK_S = 1.0
"""How long the node of an attempt whose time is up is asked for its end: each question holds a workflow task."""
SOON_S = 3.0
"""How far Temporal's clock may run ahead of the database's at the end of an attempt."""


class TaskSteps:
    """Implements `workflows.ports.TaskActivities`, with `Dispatch`."""

    def __init__(self, database: Database, temporal: TemporalGateway, nodes: NodeClient) -> None:
        self._database = database
        self._temporal = temporal
        self._nodes = nodes

    @activity.defn(name="select_slot")
    async def select_slot(self, task_id: str) -> Selection:
        """Claim a fitting slot, or enqueue the task: it is granted one later."""
        telemetry.describe(task_id=task_id)
        found = await claim_slot.claim(self._database.run, task_id)
        await self._temporal.deliver(Notifications(grants=list(found.others)))
        match found.result:
            case Grant() as grant:
                telemetry.describe(task_attempt=grant.attempt, gpu_id=grant.gpu_id)
                return Selection(found.status, grant)
            case Uncollected(attempt):
                return Selection(found.status, settled=attempt)
            case TaskEnded(cancelled, running):
                return Selection(found.status, cancelled=cancelled, running=running)
            case PastLimit(reason):
                return await self._end_at_limit(task_id, reason)
            case NoSlot() | Undecided():
                return Selection(found.status, waiting=NO_SLOT)

    async def _end_at_limit(self, task_id: str, reason: EndReason) -> Selection:
        """End a task that is past its limit. One that cannot be ended any more waits to be notified."""
        ended = await self._database.run(lambda c: end_at_limit.end(c, task_id, reason, actor=SystemActor.WORKFLOW))
        has_ended = ended.status is None or ended.status in TERMINAL
        waiting = "" if has_ended else NO_SLOT
        return Selection(ended.status, waiting=waiting, cancelled=ended.is_cancelled, running=ended.running)

    @activity.defn(name="collect")
    async def collect(self, request: CollectInput) -> Collected:
        """Close the attempt where it is still open and must be, then move the task.

        The rows decide whether it must be: anyone who can reach Temporal can request this step.
        """
        telemetry.describe(task_id=request.task_id, task_attempt=request.attempt)
        collected = await self._completed(request) or await self._collected(request)
        telemetry.describe(task_status=collected.status, attempt_outcome=collected.outcome)
        if request.attempt > 1 and collected.status in TERMINAL:
            await self._temporal.deliver(await judge_nodes.review(self._database.run, request.task_id))
        return collected

    async def _completed(self, request: CollectInput) -> Collected | None:
        """Collect in one statement, which is enough for most attempts."""
        if request.close_as is not None:
            return None
        return await self._database.single(lambda c: collect_attempt.complete(c, request.task_id, request.attempt))

    async def _collected(self, request: CollectInput) -> Collected:
        end = None
        if request.close_as is not None and await self._is_due(request, request.close_as):
            end = await self._end_on_node(request) or End(request.close_as, UNSAID.get(request.close_as))

        async def work(connection: Connection) -> tuple[Collected, Notifications]:
            notifications = Notifications()
            if end is not None:
                settled = await settle_attempt.settle(
                    connection, request.task_id, request.attempt, end, actor=SystemActor.WORKFLOW
                )
                notifications = settled.notifications
            return await collect_attempt.collect(connection, request.task_id, request.attempt), notifications

        collected, notifications = await self._database.run(work)
        await self._temporal.deliver(notifications, but=request.task_id)
        return collected

    async def _is_due(self, request: CollectInput, outcome: Outcome) -> bool:
        """Whether the attempt may be closed without its node. Waits up to `SOON_S` if it is nearly due."""
        due_in_s = await self._database.single(
            lambda c: collect_attempt.due_in_s(c, request.task_id, request.attempt, outcome)
        )
        if due_in_s is None or due_in_s > SOON_S:
            return False
        await asyncio.sleep(max(due_in_s, 0.0))
        return True

    async def _end_on_node(self, request: CollectInput) -> End | None:
        """Ask the node for the end of an attempt whose time is up: the answer with it may have been lost.

        An attempt whose dispatch stayed unclear has just been asked for.
        """
        if request.close_as is not Outcome.TIMED_OUT:
            return None
        node = await self._database.single(
            lambda c: attempt_queries.address(c, request.task_id, request.attempt, closed=False)
        )
        if node is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                return await end_on_node(self._nodes, node, run_id(request.task_id, request.attempt))
        return None

    @activity.defn(name="stop_on_node")
    async def stop_on_node(self, ref: AttemptRef) -> None:
        """Stop an attempt on its node. Until the node says that it has, it is asked again while it is ACTIVE
        (ApplicationError), and otherwise when it is back. A forbidden address is only logged.
        """
        telemetry.describe(task_id=ref.task_id, task_attempt=ref.attempt)
        node = await self._database.run(lambda c: attempt_queries.address(c, ref.task_id, ref.attempt, closed=True))
        if node is None:
            return
        error = await stop(self._database, self._temporal, self._nodes, node, ref, unseen_s=STOPPING_S)
        if error is None or isinstance(error, ForbiddenAddress):
            return
        if await self._is_on_active_node(ref):
            words, kind = str(error), type(error).__name__
            raise ApplicationError(words, type=kind, category=ApplicationErrorCategory.BENIGN) from error

    async def _is_on_active_node(self, ref: AttemptRef) -> bool:
        return await self._database.run(lambda c: attempt_queries.is_on_active_node(c, ref.task_id, ref.attempt))

    @activity.defn(name="cancel_task")
    async def cancel_task(self, task_id: str) -> Cancelled:
        """End the task as cancelled, unless it has ended; returns its state afterwards."""
        telemetry.describe(task_id=task_id)
        run = activity.info().workflow_run_id or ""
        ended = await self._database.run(lambda c: cancel_task.cancel_by_workflow(c, task_id, run))
        return Cancelled(ended.status, ended.is_cancelled, ended.attempt, ended.running)

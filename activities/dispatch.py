"""The dispatch: sending an attempt to its node. What ends it at once is in `dispatch_ends`."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from temporalio import activity

from activities.dispatch_ends import DispatchEnds, repeat
from activities.node_answers import end_of
from activities.short_work import ShortWork
from infra import telemetry
from infra.db.attempts import dispatch_order
from infra.db.attempts import queries as attempt_queries
from infra.db.attempts.dispatch_order import Order
from infra.db.session import Database
from infra.db.transactions import accept_attempt
from infra.db.transactions.collect_attempt import ACTOR
from infra.nodes.address import NodeAddress
from infra.nodes.answer import Answer
from infra.nodes.client import NodeClient, NodeUnreachable
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import ForbiddenAddress
from workflows.domain.task import EndReason
from workflows.messages import AttemptRef, Delivery, Dispatched
from workflows.policies import DISPATCH_WINDOW


class Dispatch:
    """Implements `dispatch` of `workflows.ports.TaskActivities`."""

    def __init__(
        self,
        database: Database,
        temporal: TemporalGateway,
        nodes: NodeClient,
        short_work: ShortWork,
        settings: Settings,
    ) -> None:
        self._database = database
        self._nodes = nodes
        self._ends = DispatchEnds(database, temporal, nodes)
        self._short_work = short_work
        self._base_url = settings.base_url

    @activity.defn(name="dispatch")
    async def dispatch(self, ref: AttemptRef) -> Dispatched:
        """PUT the attempt to its node (NODE_PROTOCOL). Idempotent by `{taskId}-{attempt}`.

        In a first try the node is asked to hold its answer until work that is usually short is done.
        """
        telemetry.describe(task_id=ref.task_id, task_attempt=ref.attempt)
        order = await self._database.single(lambda c: dispatch_order.order(c, ref.task_id, ref.attempt))
        if order is None:
            return Dispatched(Delivery.CLOSED)
        telemetry.describe(task_type=order.task_type, gpu_id=order.gpu_id)
        if order.past is not None:
            return await self._ends.at_limit(ref, EndReason(order.past))
        try:
            async with self._short_work.preference(order) as preference:
                began = time.monotonic()
                answer = await self._nodes.put(
                    NodeAddress(order.ip, order.port, order.secret),
                    f"{ref.task_id}-{ref.attempt}",
                    order.body(self._base_url),
                    order.headers() | preference,
                )
        except ForbiddenAddress:
            return await self._ends.settle(ref, End(Outcome.UNREACHABLE, "节点地址不再被允许"))
        except NodeUnreachable as error:
            return _unclear(f"no answer: {error}")
        took_s = time.monotonic() - began
        dispatched = await self._answered(order, answer, took_s)
        return replace(dispatched, watched_ms=int(1000 * took_s)) if preference else dispatched

    async def _answered(self, order: Order, answer: Answer, took_s: float) -> Dispatched:
        ref = AttemptRef(order.task_id, order.attempt)
        status, state = answer.status, str(answer.body.get("status"))
        if status == 202 or (status in {200, 201} and state in {"starting", "processing"}):
            return await self._accepted(order)
        if (end := end_of(answer)) is not None:
            return await self._ends.take(order, end, took_s)
        if status in {409, 503}:
            return await self._ends.refused(order, status)
        if status in {400, 422}:
            return await self._ends.settle(ref, End(Outcome.REJECTED, f"节点拒绝该任务的输入（HTTP {status}）"))
        return await self._ends.outside_of_protocol(ref, status)

    async def _accepted(self, order: Order) -> Dispatched:
        """Record that the node runs the attempt; if it was closed before that, it is to be collected."""
        key = order.task_id, order.attempt
        if await self._database.single(lambda c: accept_attempt.accept(c, *key, actor=ACTOR)):
            return Dispatched(Delivery.RUNNING)
        if await self._database.single(lambda c: attempt_queries.is_closed_without_its_node(c, *key)):
            await self._stop_late(order)
        return Dispatched(Delivery.CLOSED)

    async def _stop_late(self, order: Order) -> None:
        """Ask the node once to stop what it has just accepted: the stop may have reached it before the PUT."""
        node = NodeAddress(order.ip, order.port, order.secret)
        with suppress(NodeUnreachable, ForbiddenAddress):
            await self._nodes.cancel(node, f"{order.task_id}-{order.attempt}")


def _unclear(detail: str) -> Dispatched:
    """Raise DispatchAmbiguous, to be tried again, until the window since the first try has passed."""
    info = activity.info()
    if info.is_local or datetime.now(UTC) - info.scheduled_time < DISPATCH_WINDOW:
        repeat(detail)
    return Dispatched(Delivery.UNCLEAR)

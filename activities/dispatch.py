"""The dispatch: sending an attempt to its node, and what follows from the answer."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import NoReturn

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.node_answers import end_of
from activities.short_work import ShortWork
from infra import telemetry
from infra.db.attempts import dispatch_order
from infra.db.attempts.dispatch_order import Order
from infra.db.session import Database
from infra.db.transactions import accept_attempt, end_at_limit, settle_attempt
from infra.db.transactions.collect_attempt import ACTOR
from infra.db.transactions.report import Report, take_result
from infra.nodes.address import NodeAddress
from infra.nodes.answer import Answer
from infra.nodes.client import NO_HTTP, NodeClient, NodeUnreachable
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import ForbiddenAddress
from workflows.domain.task import EndReason, TaskStatus
from workflows.messages import AttemptRef, Delivery, Dispatched
from workflows.policies import DISPATCH_WINDOW

ANSWERS = 3
"""Answers outside of the protocol to the same dispatch, after a first one, before the attempt ends with them."""
NEEDS_PEOPLE = frozenset({"DEFUNCT", "SETUP_FAILED"})
"""Readiness states that waiting does not clear (node protocol, `/health-check`)."""


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
        self._temporal = temporal
        self._nodes = nodes
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
            return await self._end_at_limit(ref, EndReason(order.past))
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
            return await self._settle(ref, End(Outcome.UNREACHABLE, "节点地址不再被允许"))
        except NodeUnreachable as error:
            return _unclear(f"no answer: {error}")
        took_s = time.monotonic() - began
        dispatched = await self._answered(order, answer, took_s)
        return replace(dispatched, watched_ms=int(1000 * took_s)) if preference else dispatched

    async def _answered(self, order: Order, answer: Answer, took_s: float) -> Dispatched:
        ref = AttemptRef(order.task_id, order.attempt)
        status, state = answer.status, str(answer.body.get("status"))
        if status == 202 or (status in {200, 201} and state in {"starting", "processing"}):
            return await self._accepted(ref)
        if (end := end_of(answer)) is not None:
            return await self._end(order, end, took_s)
        if status in {409, 503}:
            return await self._refused(order, status)
        if status in {400, 422}:
            return await self._settle(ref, End(Outcome.REJECTED, f"节点拒绝该任务的输入（HTTP {status}）"))
        return await self._outside_of_protocol(ref, status)

    async def _end_at_limit(self, ref: AttemptRef, reason: EndReason) -> Dispatched:
        """End the task instead: what has expired never starts."""
        ended = await self._database.run(lambda c: end_at_limit.end(c, ref.task_id, reason, actor=ACTOR))
        return Dispatched(Delivery.RUNNING if ended.status is TaskStatus.PROCESSING else Delivery.CLOSED)

    async def _accepted(self, ref: AttemptRef) -> Dispatched:
        """Record that the node runs the attempt; if it was closed before that, it is to be collected."""
        accepted = await self._database.single(
            lambda c: accept_attempt.accept(c, ref.task_id, ref.attempt, actor=ACTOR)
        )
        return Dispatched(Delivery.RUNNING if accepted else Delivery.CLOSED)

    async def _end(self, order: Order, end: End, took_s: float) -> Dispatched:
        """Take the end that the answer holds. A result counts as if it had been reported, even a late one."""
        if end.result is None:
            return await self._settle(AttemptRef(order.task_id, order.attempt), replace(end, ran_s=took_s))
        report = Report(order.task_id, order.token, order.gpu_id, lineage=None, ran_s=took_s)
        heard = await take_result(self._database, report, end.result)
        await self._temporal.deliver(heard.notifications, but=order.task_id)
        return Dispatched(Delivery.CLOSED)

    async def _refused(self, order: Order, status: int) -> Dispatched:
        """Close the attempt as REFUSED, with the readiness that the node reports."""
        state, reason = await self._nodes.readiness(NodeAddress(order.ip, order.port, order.secret)) or (None, None)
        said = f"，{state}" + (f"：{reason}" if reason else "") if state else ""
        return await self._settle(
            AttemptRef(order.task_id, order.attempt),
            End(Outcome.REFUSED, f"节点暂时拒绝（HTTP {status}{said}）", needs_people=state in NEEDS_PEOPLE),
        )

    async def _outside_of_protocol(self, ref: AttemptRef, status: int) -> Dispatched:
        """Repeat the PUT a few times; after that the answer counts."""
        info = activity.info()
        if info.is_local or info.attempt < ANSWERS:
            _repeat(f"HTTP {status}")
        what = "不是HTTP" if status == NO_HTTP else f"HTTP {status}"
        return await self._settle(ref, End(Outcome.PROTOCOL_ERROR, f"节点的应答不符合节点协议（{what}）"))

    async def _settle(self, ref: AttemptRef, end: End) -> Dispatched:
        """Close the attempt; one that the node has accepted before may go on."""
        settled = await self._database.run(
            lambda c: settle_attempt.settle(c, ref.task_id, ref.attempt, end, actor=ACTOR)
        )
        await self._temporal.deliver(settled.notifications, but=ref.task_id)
        return Dispatched(Delivery.RUNNING if settled.answer is settle_attempt.Answer.ACCEPTED else Delivery.CLOSED)


def _unclear(detail: str) -> Dispatched:
    """Raise DispatchAmbiguous, to be tried again, until the window since the first try has passed."""
    info = activity.info()
    if info.is_local or datetime.now(UTC) - info.scheduled_time < DISPATCH_WINDOW:
        _repeat(detail)
    return Dispatched(Delivery.UNCLEAR)


def _repeat(detail: str) -> NoReturn:
    message = f"the node's answer leaves the attempt open: {detail}"
    activity.logger.warning("%s", message)
    raise ApplicationError(message, type="DispatchAmbiguous", category=ApplicationErrorCategory.BENIGN)

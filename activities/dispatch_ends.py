"""Attempts that end with their dispatch: refused by the node, ended already, or answered outside of the protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from infra.db.attempts.dispatch_order import Order
from infra.db.session import Database
from infra.db.transactions import end_at_limit, settle_attempt
from infra.db.transactions.collect_attempt import ACTOR
from infra.db.transactions.report import Report, take_result
from infra.nodes.address import NodeAddress
from infra.nodes.client import NO_HTTP, NodeClient
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import End, Outcome
from workflows.domain.task import EndReason, TaskStatus
from workflows.messages import AttemptRef, Delivery, Dispatched

ANSWERS = 3
"""Answers outside of the protocol to the same dispatch, after a first one, before the attempt ends with them."""
NEEDS_PEOPLE = frozenset({"DEFUNCT", "SETUP_FAILED"})
"""Readiness states that waiting does not clear (node protocol, `/health-check`)."""


class DispatchEnds:
    """Ends attempts in their dispatch."""

    def __init__(self, database: Database, temporal: TemporalGateway, nodes: NodeClient) -> None:
        self._database = database
        self._temporal = temporal
        self._nodes = nodes

    async def at_limit(self, ref: AttemptRef, reason: EndReason) -> Dispatched:
        """End the task instead: what has expired never starts."""
        ended = await self._database.run(lambda c: end_at_limit.end(c, ref.task_id, reason, actor=ACTOR))
        return Dispatched(Delivery.RUNNING if ended.status is TaskStatus.PROCESSING else Delivery.CLOSED)

    async def take(self, order: Order, end: End, took_s: float) -> Dispatched:
        """Take the end that the answer holds. A result counts as if it had been reported, even a late one."""
        if end.result is None:
            return await self.settle(AttemptRef(order.task_id, order.attempt), replace(end, ran_s=took_s))
        report = Report(order.task_id, order.token, order.gpu_id, lineage=None, ran_s=took_s)
        heard = await take_result(self._database, report, end.result)
        await self._temporal.deliver(heard.notifications, but=order.task_id)
        return Dispatched(Delivery.CLOSED)

    async def refused(self, order: Order, status: int) -> Dispatched:
        """Close the attempt as REFUSED, with the readiness that the node reports."""
        state, reason = await self._nodes.readiness(NodeAddress(order.ip, order.port, order.secret)) or (None, None)
        said = f"，{state}" + (f"：{reason}" if reason else "") if state else ""
        return await self.settle(
            AttemptRef(order.task_id, order.attempt),
            End(Outcome.REFUSED, f"节点暂时拒绝（HTTP {status}{said}）", needs_people=state in NEEDS_PEOPLE),
        )

    async def outside_of_protocol(self, ref: AttemptRef, status: int) -> Dispatched:
        """Repeat the PUT a few times; after that the answer counts."""
        info = activity.info()
        if info.is_local or info.attempt < ANSWERS:
            repeat(f"HTTP {status}")
        what = "不是HTTP" if status == NO_HTTP else f"HTTP {status}"
        return await self.settle(ref, End(Outcome.PROTOCOL_ERROR, f"节点的应答不符合节点协议（{what}）"))

    async def settle(self, ref: AttemptRef, end: End) -> Dispatched:
        """Close the attempt; one that the node has accepted before may go on."""
        settled = await self._database.run(
            lambda c: settle_attempt.settle(c, ref.task_id, ref.attempt, end, actor=ACTOR)
        )
        await self._temporal.deliver(settled.notifications, but=ref.task_id)
        return Dispatched(Delivery.RUNNING if settled.answer is settle_attempt.Answer.ACCEPTED else Delivery.CLOSED)


def repeat(detail: str) -> NoReturn:
    """Raise DispatchAmbiguous: the dispatch is to be tried again."""
    message = f"the node's answer leaves the attempt open: {detail}"
    activity.logger.warning("%s", message)
    raise ApplicationError(message, type="DispatchAmbiguous", category=ApplicationErrorCategory.BENIGN)

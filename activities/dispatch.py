"""The dispatch: sending an attempt to its node, and what follows from the answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from msgspec import Raw
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.node_answers import end_of
from infra import telemetry
from infra.db.attempts import dispatch_order
from infra.db.attempts.dispatch_order import Order
from infra.db.session import Database
from infra.db.slots.forecast import Forecast
from infra.db.transactions import accept_attempt, end_at_limit, settle_attempt
from infra.db.transactions.collect_attempt import ACTOR
from infra.db.transactions.report import Report, take_result
from infra.json import strict_json
from infra.nodes.address import NodeAddress
from infra.nodes.answer import Answer
from infra.nodes.client import NO_HTTP, NodeClient, NodeUnreachable
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import ForbiddenAddress
from workflows.domain.task import EndReason, TaskStatus
from workflows.messages import AttemptRef, Delivery, Dispatched
from workflows.policies import DISPATCH_WINDOW, FIRST_DISPATCH

ANSWERS = 3
"""Answers outside of the protocol to the same dispatch, after a first one, before the attempt ends with them."""
NEEDS_PEOPLE = frozenset({"DEFUNCT", "SETUP_FAILED"})
"""Readiness states that waiting does not clear (node protocol, `/health-check`)."""
WAIT_S = 1
AT_ONCE = 50
"""Answers that a process waits for at the same time: each holds a workflow task, of which a worker has a hundred."""
SPARE_S = 0.5
"""Time that a first try needs beside the wait: to connect, and to store the result."""


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
                    _body(order, self._base_url),
                    _headers(order) | preference,
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


class ShortWork:
    """Has short work answered in its dispatch (ADR 0031), which saves a signal, a timer and a workflow task."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._waiting = 0

    @asynccontextmanager
    async def preference(self, order: Order) -> AsyncIterator[dict[str, str]]:
        """The headers with which a node is asked to hold its answer; none if it is not to be held."""
        if self._waiting >= AT_ONCE or not await self._is_short(order):
            yield {}
            return
        self._waiting += 1
        try:
            yield {"Prefer": f"wait={WAIT_S}"}
        finally:
            self._waiting -= 1

    async def _is_short(self, order: Order) -> bool:
        """Only a first try waits, for at most half of the task's timeout, if the work usually ends within that time."""
        if not activity.info().is_local or _left_s() < WAIT_S + SPARE_S or order.timeout_ms < 2000 * WAIT_S:
            return False
        if order.expires_soon:
            return False
        return await self._forecast.usual_s(order.task_type) <= WAIT_S


def _left_s() -> float:
    """Seconds left for this try; they count from the moment in which it was scheduled."""
    return (activity.info().scheduled_time + FIRST_DISPATCH - datetime.now(UTC)).total_seconds()


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


def _input(payload: str) -> Raw | dict[str, str]:
    """A JSON object as it was written; anything else as a string (NODE_PROTOCOL)."""
    try:
        strict_json.check_text(payload)
    except ValueError:
        return {"payload": payload}
    return Raw(payload) if payload.lstrip().startswith("{") else {"payload": payload}


def _body(order: Order, base_url: str) -> dict[str, Any]:
    return {
        "input": _input(order.payload),
        "context": {
            "taskId": order.task_id,
            "attempt": order.attempt,
            "taskType": order.task_type,
            "app": order.app,
            "userId": order.user_id,
            "env": order.env,
            "timeout": order.timeout_ms,
        },
        "webhook": f"{base_url}/api/v2/tasks/{order.task_id}",
    }


def _headers(order: Order) -> dict[str, str]:
    headers = {"X-Attempt-Token": order.token}
    traceparent = telemetry.traceparent_in(order.traceparent)
    return headers | ({"traceparent": traceparent} if traceparent else {})

"""The node's answer to a dispatch: it runs the attempt, has ended it already, refuses it, or breaks the protocol."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.node_answers import ask, end_of
from infra.db.attempts import queries as attempt_queries
from infra.db.attempts.dispatch_request import DispatchRequest
from infra.db.session import Database
from infra.db.transactions import accept_attempt, end_at_limit, settle_attempt
from infra.db.transactions.report import Report, take_result
from infra.nodes.answer import NodeAnswer
from infra.nodes.client import NodeClient
from infra.nodes.http import NO_HTTP, NodeUnreachable
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import ForbiddenAddress
from workflows.domain.system_actor import SystemActor
from workflows.domain.task import EndReason, TaskStatus
from workflows.messages import Dispatched, DispatchResult

ANSWERS = 3
"""The try of the regular activity at which an answer outside of the protocol ends the attempt."""
ASK_S = 0.5
"""How long a node that turns a dispatch away is asked whether it has the attempt."""
NEEDS_PEOPLE = frozenset({"DEFUNCT", "SETUP_FAILED"})
"""Readiness states that waiting does not clear (node protocol, `/health-check`)."""


class DispatchAnswers:
    """Records what nodes answer, and ends the attempts that they do not run."""

    def __init__(self, database: Database, temporal: TemporalGateway, nodes: NodeClient) -> None:
        self._database = database
        self._temporal = temporal
        self._nodes = nodes

    async def at_limit(self, request: DispatchRequest, reason: EndReason) -> Dispatched:
        """End the task instead: what has expired never starts."""
        ended = await self._database.run(
            lambda c: end_at_limit.end(c, request.task_id, reason, actor=SystemActor.WORKFLOW)
        )
        return Dispatched(DispatchResult.RUNNING if ended.status is TaskStatus.PROCESSING else DispatchResult.CLOSED)

    async def take(self, request: DispatchRequest, answer: NodeAnswer, took_s: float) -> Dispatched:
        """Do what the answer says. Raises DispatchAmbiguous if the PUT is to be repeated."""
        status, state = answer.status, str(answer.body.get("status"))
        if status == 202 or (status in {200, 201} and state in {"starting", "processing"}):
            return await self._accepted(request)
        if (end := end_of(answer)) is not None:
            return await self._ended(request, end, took_s)
        if status in {409, 503}:
            return await self._turned_away(request, await self._refusal(request, status), took_s)
        if status in {400, 422}:
            rejection = End(Outcome.REJECTED, f"节点拒绝该任务的输入（HTTP {status}）")
            return await self._turned_away(request, rejection, took_s)
        return await self._outside_of_protocol(request, status)

    async def settle(self, request: DispatchRequest, end: End, *, unless_accepted: bool = False) -> Dispatched:
        """Close the attempt; one that the node has accepted before may go on."""
        key = request.task_id, request.attempt
        settled = await self._database.run(
            lambda c: settle_attempt.settle(c, *key, end, actor=SystemActor.WORKFLOW, unless_accepted=unless_accepted)
        )
        await self._temporal.deliver(settled.notifications, but=request.task_id)
        goes_on = settled.answer is settle_attempt.SettleResult.ACCEPTED
        return Dispatched(DispatchResult.RUNNING if goes_on else DispatchResult.CLOSED)

    async def _accepted(self, request: DispatchRequest) -> Dispatched:
        """Record that the node runs the attempt; if it was closed before that, it is to be collected."""
        key = request.task_id, request.attempt
        if await self._database.single(lambda c: accept_attempt.accept(c, *key, actor=SystemActor.WORKFLOW)):
            return Dispatched(DispatchResult.RUNNING)
        if await self._database.single(lambda c: attempt_queries.is_closed_without_its_node(c, *key)):
            with suppress(NodeUnreachable, ForbiddenAddress):  # the stop may have reached the node before the PUT
                await self._nodes.cancel(request.node, request.run_id)
        return Dispatched(DispatchResult.CLOSED)

    async def _ended(self, request: DispatchRequest, end: End, took_s: float) -> Dispatched:
        """Take the end that the answer holds. A result counts as if it had been reported, even a late one."""
        if end.result is None:
            return await self.settle(request, replace(end, ran_s=took_s))
        report = Report(request.task_id, request.token, request.gpu_id, lineage=None, ran_s=took_s)
        taken = await take_result(self._database, report, end.result)
        await self._temporal.deliver(taken.notifications, but=request.task_id)
        return Dispatched(DispatchResult.CLOSED)

    async def _turned_away(self, request: DispatchRequest, end: End, took_s: float) -> Dispatched:
        """Close the attempt, unless the node has run it all the same: the answer to an earlier PUT may have been lost.

        Where that stays unclear a refused attempt ends UNREACHABLE, so that its slot is held and the node asked to stop
        it. A rejected one stays so: the node has judged the input.
        """
        known = await self._known(request)
        ended = None if known is None else end_of(known)
        if known is not None and known.confirms:
            return await (self._accepted(request) if ended is None else self._ended(request, ended, took_s))
        if end.outcome is Outcome.REFUSED:
            if ended is not None:
                return await self._ended(request, ended, took_s)
            if (known is None or known.status != 404) and not activity.info().is_local:
                end = replace(end, outcome=Outcome.UNREACHABLE)
        return await self.settle(request, end, unless_accepted=True)

    async def _known(self, request: DispatchRequest) -> NodeAnswer | None:
        """The node's answer about the attempt; None without one within `ASK_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                return await ask(self._nodes, request.node, request.run_id)
        return None

    async def _refusal(self, request: DispatchRequest, status: int) -> End:
        """REFUSED, with the readiness that the node reports."""
        state, reason = await self._nodes.readiness(request.node) or (None, None)
        said = f"，{state}" + (f"：{reason}" if reason else "") if state else ""
        return End(Outcome.REFUSED, f"节点暂时拒绝（HTTP {status}{said}）", needs_people=state in NEEDS_PEOPLE)

    async def _outside_of_protocol(self, request: DispatchRequest, status: int) -> Dispatched:
        """Repeat the PUT a few times; after that the answer counts."""
        info = activity.info()
        if info.is_local or info.attempt < ANSWERS:
            repeat(f"HTTP {status}")
        what = "不是HTTP" if status == NO_HTTP else f"HTTP {status}"
        return await self.settle(request, End(Outcome.PROTOCOL_ERROR, f"节点的应答不符合节点协议（{what}）"))


def repeat(detail: str) -> NoReturn:
    """Raise DispatchAmbiguous: the dispatch is to be tried again."""
    message = f"the node's answer leaves the attempt open: {detail}"
    activity.logger.warning("%s", message)
    raise ApplicationError(message, type="DispatchAmbiguous", category=ApplicationErrorCategory.BENIGN)

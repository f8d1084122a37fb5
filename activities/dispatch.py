"""The dispatch: sending an attempt to its node. What follows from the node's answer is in `dispatch_answers`."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from temporalio import activity

from activities.dispatch_answers import DispatchAnswers, repeat
from activities.short_work import ShortWork
from infra import telemetry
from infra.db.attempts.dispatch_request import read_request
from infra.db.session import Database
from infra.nodes.client import NodeClient
from infra.nodes.http import NodeUnreachable
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import End, Outcome
from workflows.domain.errors import ForbiddenAddress
from workflows.domain.task import EndReason
from workflows.messages import AttemptRef, Dispatched, DispatchResult
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
        self._answers = DispatchAnswers(database, temporal, nodes)
        self._short_work = short_work
        self._base_url = settings.base_url

    @activity.defn(name="dispatch")
    async def dispatch(self, ref: AttemptRef) -> Dispatched:
        """PUT the attempt to its node (NODE_PROTOCOL). Idempotent by `{taskId}-{attempt}`.

        In a first try the node is asked to hold its answer until work that is usually short is done.
        """
        telemetry.describe(task_id=ref.task_id, task_attempt=ref.attempt)
        request = await self._database.single(lambda c: read_request(c, ref.task_id, ref.attempt))
        if request is None:
            return Dispatched(DispatchResult.CLOSED)
        telemetry.describe(task_type=request.task_type, gpu_id=request.gpu_id)
        if request.past is not None:
            return await self._answers.at_limit(request, EndReason(request.past))
        try:
            async with self._short_work.preference(request) as preference:
                began = time.monotonic()
                answer = await self._nodes.put(
                    request.node,
                    request.run_id,
                    request.body(self._base_url),
                    request.headers() | preference,
                )
        except ForbiddenAddress:
            return await self._answers.settle(request, End(Outcome.UNREACHABLE, "节点地址不再被允许"))
        except NodeUnreachable as error:
            return _unclear(f"no answer: {error}")
        took_s = time.monotonic() - began
        dispatched = await self._answers.take(request, answer, took_s)
        return replace(dispatched, watched_ms=int(1000 * took_s)) if preference else dispatched


def _unclear(detail: str) -> Dispatched:
    """Raise DispatchAmbiguous, to be tried again, until the window since the first try has passed."""
    info = activity.info()
    if info.is_local or datetime.now(UTC) - info.scheduled_time < DISPATCH_WINDOW:
        repeat(detail)
    return Dispatched(DispatchResult.UNCLEAR)

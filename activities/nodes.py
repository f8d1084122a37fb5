"""The steps of a node's life: do what its row demands, and ask it for its attempts before they are taken away."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from temporalio import activity

from activities.node_answers import ask, end_of, stop
from infra.db.attempts import open_attempts
from infra.db.attempts import queries as attempt_queries
from infra.db.attempts.queries import AttemptOnNode
from infra.db.nodes import queries as node_queries
from infra.db.nodes import transitions as node_transitions
from infra.db.nodes.queries import RegisteredNode
from infra.db.session import Database
from infra.db.transactions import attend_node, node_state, obey_command, settle_attempt
from infra.nodes.client import NodeClient
from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import HELD_S, End, Outcome, run_id
from workflows.domain.errors import ForbiddenAddress, GpuNotFound
from workflows.domain.gpu import GpuStatus
from workflows.domain.system_actor import SystemActor
from workflows.messages import AttemptRef, NodeCommand, NodeView
from workflows.notifications import Notifications

QUESTIONS_AT_ONCE = 16
STOPS_S = HELD_S
"""How long a node that is back is asked to stop things; it gets work after that in any case."""
ASK_AGAIN_S = 1.0
"""Seconds between two cancels of one attempt in that time."""


class NodeSteps:
    """Implements `workflows.ports.NodeActivities`."""

    def __init__(self, database: Database, temporal: TemporalGateway, nodes: NodeClient, settings: Settings) -> None:
        self._database = database
        self._temporal = temporal
        self._nodes = nodes
        self._settings = settings

    @activity.defn(name="attend_node")
    async def attend_node(self, gpu_id: str) -> NodeView:
        """Mark a silent node OFFLINE, or close the attempts of a faulty or deregistered one, in one transaction."""
        grace_s = self._settings.heartbeat_timeout
        node, notifications = await self._database.run(lambda c: attend_node.attend(c, gpu_id, grace_s))
        await self._temporal.deliver(notifications)
        return self._view(node)

    @activity.defn(name="confirm_attempts")
    async def confirm_attempts(self, gpu_id: str) -> NodeView:
        """Ask the node for each open attempt in question, and close those that it does not confirm."""
        node = await self._database.run(lambda c: node_queries.get(c, gpu_id))
        if node is not None:
            rows = await self._database.run(lambda c: attempt_queries.open_on(c, gpu_id))
            questions = asyncio.Semaphore(QUESTIONS_AT_ONCE)
            await asyncio.gather(*(self._ask(node, row, questions) for row in rows if _in_question(node, row)))
            if node.is_back:
                await self._stop_closed(node, questions)
        return await self.attend_node(gpu_id)

    async def _ask(self, node: RegisteredNode, row: AttemptOnNode, questions: asyncio.Semaphore) -> None:
        async with questions:
            answer = await ask(self._nodes, row.node, run_id(row.task_id, row.attempt))
        end = None if answer is None else end_of(answer)
        if end is not None and end.result is not None:
            await self._close(row, end)  # its dispatch may have missed it, and then the node reports nothing
        elif answer is None or not answer.confirms or self._hold_is_over(node):
            await self._take(node, row)
        elif row.gpu_epoch != node.epoch and node.status == GpuStatus.ACTIVE:
            await self._database.run(lambda c: open_attempts.adopt(c, row.task_id, row.attempt, node.epoch))

    async def _stop_closed(self, node: RegisteredNode, questions: asyncio.Semaphore) -> None:
        """Stop what was closed while the node could not be reached. It gets new work after that, or after a moment."""
        rows = await self._database.run(lambda c: attempt_queries.to_stop_on(c, node.gpu_id))
        stopped = await asyncio.gather(*(self._stop(row, questions) for row in rows))
        await self._database.run(lambda c: node_transitions.attended(c, node.gpu_id, node.epoch, node.status))
        if all(stopped):
            await self._temporal.deliver(await self._database.run(lambda c: node_state.has_stopped(c, node.gpu_id)))

    async def _stop(self, row: AttemptOnNode, questions: asyncio.Semaphore) -> bool:
        """Whether the node has said within `STOPS_S` that the process is gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOPS_S):
                return await self._insist(row, questions)
        return False

    async def _insist(self, row: AttemptOnNode, questions: asyncio.Semaphore) -> bool:
        """Ask until the node says that the process is gone, and release the attempt. False where the address is not
        allowed any more."""
        attempt = AttemptRef(row.task_id, row.attempt)
        while error := await stop(self._database, self._temporal, self._nodes, row.node, attempt, turn=questions):
            if isinstance(error, ForbiddenAddress):
                return False
            await asyncio.sleep(ASK_AGAIN_S)
        return True

    @activity.defn(name="obey")
    async def obey(self, command: NodeCommand) -> None:
        """Do the same as the REST call; the workflow reads the row next. A deregistered node is left alone."""
        try:
            notifications = await self._database.run(lambda c: obey_command.obey(c, command))
        except GpuNotFound:
            return
        await self._temporal.deliver(Notifications(grants=notifications.grants))

    def _hold_is_over(self, node: RegisteredNode) -> bool:
        """A silent node keeps its tasks for at most one more grace, even if it confirms them."""
        return node.status == GpuStatus.OFFLINE and node.status_age_s >= self._settings.heartbeat_timeout

    async def _take(self, node: RegisteredNode, row: AttemptOnNode) -> None:
        """Close the attempt, unless the node has come back or registered again in the meantime."""
        if node.status == GpuStatus.OFFLINE:
            end = End(Outcome.LOST, "节点失去联系")
        else:
            end = End(Outcome.DEREGISTERED, "节点重新注册后不再运行该任务")
        await self._close(row, end, node_is=(node.status, node.epoch))

    async def _close(self, row: AttemptOnNode, end: End, node_is: tuple[str, int] | None = None) -> None:
        settled = await self._database.run(
            lambda c: settle_attempt.settle(
                c, row.task_id, row.attempt, end, actor=SystemActor.NODE_WORKFLOW, node_is=node_is
            )
        )
        await self._temporal.deliver(settled.notifications)

    def _view(self, node: RegisteredNode | None) -> NodeView:
        grace = self._settings.heartbeat_timeout
        if node is None:
            return NodeView(None, 0, 0, 0, check_every_s=grace)
        status = GpuStatus(node.status)
        in_question = status is GpuStatus.OFFLINE or (status is GpuStatus.ACTIVE and node.older_attempts > 0)
        return NodeView(
            status,
            node.epoch,
            node.silent_s,
            node.open_attempts,
            unconfirmed=node.is_back or (node.open_attempts > 0 and in_question),
            check_every_s=grace,
            draining=node.draining,
        )


def _in_question(node: RegisteredNode, row: AttemptOnNode) -> bool:
    """Whether the node must confirm it: all attempts of a silent node, those of an earlier registration otherwise."""
    return node.status == GpuStatus.OFFLINE or row.gpu_epoch != node.epoch

"""The end of an attempt as its node's answers describe it, and its stop (node protocol, `/predictions/{id}`)."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

from temporalio import activity

from infra.db.session import Database
from infra.db.transactions import release_attempt
from infra.json import results
from infra.json.strict_json import Unfit
from infra.nodes.address import NodeAddress
from infra.nodes.answer import NodeAnswer
from infra.nodes.client import NodeClient
from infra.nodes.http import NodeUnreachable
from infra.temporal.gateway import TemporalGateway
from workflows.domain.attempt import STOPPING_S, UNSAID, End, Outcome, run_id
from workflows.domain.errors import ForbiddenAddress
from workflows.messages import AttemptRef


class NotStopped(Exception):
    """The node has answered a cancel, and the answer does not say that the process is gone."""


def end_of(answer: NodeAnswer) -> End | None:
    """The end of the attempt according to an answer; None if the work still runs, or the answer does not say."""
    if answer.status not in {200, 201}:
        return None
    match answer.body.get("status"):
        case "succeeded" if answer.output is not None:
            return _with_result(answer.output)
        case "failed" if answer.body.get("rejected") is True:
            return End(Outcome.REJECTED, answer.error or UNSAID[Outcome.REJECTED])
        case "failed":
            return End(Outcome.FAILED, answer.error or UNSAID[Outcome.FAILED])
        case "canceled":
            return End(Outcome.HANDED_BACK, "节点已取消该次执行")
    return None


async def end_on_node(nodes: NodeClient, node: NodeAddress, run_id: str) -> End | None:
    """Ask a node how an attempt ended; None if it does not say.

    A node reports an end once. If that answer was lost, only this question finds it. An attempt that was stopped on the
    node has no end of its own.
    """
    answer = await ask(nodes, node, run_id)
    end = None if answer is None else end_of(answer)
    return None if end is None or end.outcome is Outcome.HANDED_BACK else end


async def stop(
    database: Database,
    temporal: TemporalGateway,
    nodes: NodeClient,
    node: NodeAddress,
    attempt: AttemptRef,
    *,
    turn: AbstractAsyncContextManager[object] | None = None,
    unseen_s: float | None = None,
) -> NodeUnreachable | NotStopped | ForbiddenAddress | None:
    """Cancel an attempt on its node, in this `turn`, and free its slot once the process is gone.

    A node that has never seen the attempt (404) is asked again after `unseen_s`: the dispatch may be under way. One
    without the field `stopped` is given a moment. Returns why the attempt could not be stopped, or None.
    """
    name = run_id(attempt.task_id, attempt.attempt)
    try:
        await _cancel(nodes, node, name, turn or nullcontext(), unseen_s)
    except (NodeUnreachable, NotStopped, ForbiddenAddress) as error:
        activity.logger.info("could not stop %s: %s", name, error)
        return error
    released = await database.run(lambda c: release_attempt.release(c, attempt.task_id, attempt.attempt))
    await temporal.deliver(released)
    return None


async def _cancel(
    nodes: NodeClient,
    node: NodeAddress,
    run_id: str,
    turn: AbstractAsyncContextManager[object],
    unseen_s: float | None,
) -> None:
    """Return once the process is gone. Raises NodeUnreachable, NotStopped, ForbiddenAddress."""
    async with turn:
        answer = await nodes.cancel(node, run_id)
    if answer.status == 404 and unseen_s is not None:
        await asyncio.sleep(unseen_s)
        answer = await nodes.cancel(node, run_id)
    if answer.status not in {200, 404}:
        raise NotStopped(f"HTTP {answer.status}")
    if answer.status == 404 or answer.body.get("stopped") is True:
        return
    if "stopped" in answer.body:
        raise NotStopped("it still runs")
    await asyncio.sleep(STOPPING_S)


async def ask(nodes: NodeClient, node: NodeAddress, run_id: str) -> NodeAnswer | None:
    """Ask a node for an attempt; None if the node does not answer."""
    try:
        return await nodes.status(node, run_id)
    except (NodeUnreachable, ForbiddenAddress):
        return None


def _with_result(output: str) -> End:
    try:
        return End(Outcome.SUCCEEDED, result=results.result(output))
    except Unfit as error:
        return End(Outcome.FAILED, f"节点返回的结果无法接受: {error.chinese}")

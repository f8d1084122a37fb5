"""An answer of a node that holds the end of an attempt: taken by its dispatch, or asked for later."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from temporalio.testing import ActivityEnvironment

from activities.dispatch import Dispatch
from activities.nodes import NodeSteps
from activities.reconciler import DELIVERY_S, OVERDUE_S, UNHEARD_S, Reconciler
from activities.short_work import ShortWork
from activities.tasks import TaskSteps
from infra.db.repair import drift
from infra.db.transactions import accept_attempt, settle_attempt
from infra.nodes.answer import NodeAnswer
from infra.nodes.http import NodeUnreachable
from infra.settings import Settings
from tests.db.conftest import TIMEOUT_S
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from workflows.domain.attempt import End, Outcome
from workflows.messages import AttemptRef, CollectInput, Dispatched, DispatchResult

DONE = NodeAnswer(200, {"status": "succeeded", "output": {"n": 1}}, '{"n":1}')
GATEWAY = MagicMock(deliver=AsyncMock())


async def dispatch(life: Life, put: Any, cancel: Any = None) -> Dispatched:
    forecast = MagicMock(usual_s=AsyncMock(return_value=0.1))
    nodes = MagicMock(put=put, cancel=cancel)
    step = Dispatch(OneConnection(life.connection), GATEWAY, nodes, ShortWork(forecast), Settings())
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=True, scheduled_time=datetime.now(UTC))
    return await environment.run(step.dispatch, AttemptRef("t", 1))


async def outcome(life: Life) -> str | None:
    found: str | None = await life.scalar("SELECT outcome FROM attempts WHERE task_id = 't'")
    return found


async def test_the_result_is_stored_and_does_not_travel_through_temporal(held: Life) -> None:
    dispatched = await dispatch(held, AsyncMock(return_value=DONE))
    assert replace(dispatched, watched_ms=0) == Dispatched(DispatchResult.CLOSED)
    assert await held.scalar("SELECT result FROM task_results") == '{"n":1}'
    assert (await held.task("t")).status == "PROCESSING"


async def test_a_result_that_comes_too_late_is_kept_for_inspection(held: Life) -> None:
    async def closed_meanwhile(*_: Any) -> NodeAnswer:
        await settle_attempt.settle(held.connection, "t", 1, End(Outcome.LOST, "x"), actor="test")
        return DONE

    assert (await dispatch(held, closed_meanwhile)).delivery is DispatchResult.CLOSED
    assert await outcome(held) == "LOST"
    assert await held.scalar("SELECT body FROM late_reports WHERE task_id = 't'") == '{"n":1}'


@pytest.mark.parametrize(
    "answer", [NodeAnswer(202, {"status": "starting"}), NodeAnswer(200, {"status": "processing"})], ids=str
)
@pytest.mark.parametrize("how", [Outcome.TASK_ENDED, Outcome.LOST, Outcome.SUCCEEDED])
async def test_what_a_node_accepts_after_its_stop_is_stopped(held: Life, answer: NodeAnswer, how: Outcome) -> None:
    """It had never seen the attempt when it was asked to stop it. What it has ended itself is left alone."""

    async def closed_meanwhile(*_: Any) -> NodeAnswer:
        await held.do("UPDATE attempts SET outcome = %(how)s, closed_at = clock_timestamp()", how=how)
        await held.do("UPDATE attempts SET released_at = closed_at")
        return answer

    cancel = AsyncMock(side_effect=NodeUnreachable("once is enough"))
    assert (await dispatch(held, closed_meanwhile, cancel)).delivery is DispatchResult.CLOSED
    assert [call.args[1] for call in cancel.await_args_list] == ([] if how is Outcome.SUCCEEDED else ["t-1"])


async def test_the_same_result_by_report_and_by_answer_is_one(held: Life) -> None:
    async def reported_meanwhile(*_: Any) -> NodeAnswer:
        await settle_attempt.settle(held.connection, "t", 1, End(Outcome.SUCCEEDED, result='{"n":1}'), actor="gpu:n")
        return DONE

    assert (await dispatch(held, reported_meanwhile)).delivery is DispatchResult.CLOSED
    assert await held.scalar("SELECT count(*) FROM late_reports") == 0


ENDS = pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (DONE, "SUCCEEDED"),
        (NodeAnswer(200, {"status": "failed", "error": "boom"}), "FAILED"),
        (NodeAnswer(200, {"status": "succeeded"}), None),
        (NodeAnswer(200, {"status": "canceled"}), None),
        (NodeAnswer(200, {"status": "processing"}), None),
        (NodeAnswer(404, {}), None),
        (NodeUnreachable("nobody"), None),
    ],
)
"""A node's answers about an attempt whose time is up, and the end that follows if the answer decides it."""


@ENDS
@pytest.mark.parametrize(("accepted", "overdue"), [(True, "TIMED_OUT"), (False, "UNREACHABLE")])
async def test_the_node_is_asked_before_its_attempt_expires(
    held: Life, answer: Any, ends: str | None, overdue: str, *, accepted: bool
) -> None:
    if accepted:
        await accept_attempt.accept(held.connection, "t", 1, actor="test")
    await held.do("UPDATE tasks SET engine_started_at = clock_timestamp()")
    await held.do(
        "UPDATE attempts SET claimed_at = claimed_at - make_interval(secs => %(s)s),"
        " accepted_at = accepted_at - make_interval(secs => %(s)s)",
        s=TIMEOUT_S + OVERDUE_S + DELIVERY_S + UNHEARD_S,
    )
    (row,) = await drift.expired(held.connection, OVERDUE_S, DELIVERY_S, UNHEARD_S)
    nodes = MagicMock(status=AsyncMock(side_effect=[answer]))
    assert await Reconciler(OneConnection(held.connection), GATEWAY, nodes, Settings())._expire(row)
    assert await outcome(held) == (ends or overdue)
    assert (await held.scalar("SELECT (SELECT result FROM task_results)")) == (
        '{"n":1}' if ends == "SUCCEEDED" else None
    )


@ENDS
async def test_the_node_is_asked_at_the_deadline(held: Life, answer: Any, ends: str | None) -> None:
    """The answer to the dispatch may be lost, and with it the only word of the end."""
    await accept_attempt.accept(held.connection, "t", 1, actor="test")
    await held.do("UPDATE attempts SET accepted_at = accepted_at - make_interval(secs => %(s)s)", s=TIMEOUT_S)
    nodes = MagicMock(status=AsyncMock(side_effect=[answer]))
    steps = TaskSteps(OneConnection(held.connection), GATEWAY, nodes)
    collected = await ActivityEnvironment().run(steps.collect, CollectInput("t", 1, Outcome.TIMED_OUT))
    assert collected.outcome == await outcome(held) == (ends or "TIMED_OUT")
    assert (await held.task("t")).status == {"SUCCEEDED": "COMPLETED", "FAILED": "FAILED"}.get(ends or "", "TIMEOUT")
    assert (await held.scalar("SELECT (SELECT result FROM task_results)")) == (
        '{"n":1}' if ends == "SUCCEEDED" else None
    )


async def test_a_node_that_does_not_answer_delays_the_deadline_by_a_second_at_most(
    held: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: Any) -> NodeAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("activities.tasks.ASK_S", 0.01)
    await accept_attempt.accept(held.connection, "t", 1, actor="test")
    await held.do("UPDATE attempts SET accepted_at = accepted_at - make_interval(secs => %(s)s)", s=TIMEOUT_S)
    steps = TaskSteps(OneConnection(held.connection), GATEWAY, MagicMock(status=hangs))
    collected = await ActivityEnvironment().run(steps.collect, CollectInput("t", 1, Outcome.TIMED_OUT))
    assert collected.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (DONE, "SUCCEEDED"),
        (NodeAnswer(200, {"status": "succeeded"}), None),
        (NodeAnswer(200, {"status": "processing"}), None),
        (NodeAnswer(200, {"status": "failed", "error": "boom"}), "DEREGISTERED"),
        (NodeUnreachable("nobody"), "DEREGISTERED"),
    ],
)
async def test_a_node_that_comes_back_is_asked_for_the_result(held: Life, answer: Any, ends: str | None) -> None:
    """It has answered the dispatch, and was restarted: that the answer was lost nobody else knows."""
    await accept_attempt.accept(held.connection, "t", 1, actor="test")
    await held.node("n", [1])
    nodes = MagicMock(status=AsyncMock(side_effect=[answer]))
    await ActivityEnvironment().run(
        NodeSteps(OneConnection(held.connection), GATEWAY, nodes, Settings()).confirm_attempts, "n"
    )
    assert await outcome(held) == ends

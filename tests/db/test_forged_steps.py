"""Steps with arguments that no workflow of ours would send: anyone who reaches Temporal can ask for them."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities import node_answers, tasks
from activities.tasks import SOON_S, TaskSteps
from infra.db.repair import invariants, overdue, verify
from infra.db.transactions import accept_attempt, collect_attempt
from infra.db.transactions.collect_attempt import DELIVERY_S
from infra.nodes.answer import NodeAnswer
from infra.nodes.http import NO_HTTP, TOTAL_S, NodeUnreachable
from infra.settings import Settings
from tests.db.conftest import TIMEOUT_S
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from workflows import policies
from workflows.domain.attempt import STOPPING_S, End, Outcome
from workflows.domain.task import TaskStatus
from workflows.messages import AttemptRef, Collected, CollectInput


def steps(life: Life, nodes: Any = None) -> TaskSteps:
    gateway = MagicMock(deliver=AsyncMock())
    nodes = nodes or MagicMock(status=AsyncMock(side_effect=NodeUnreachable))
    return TaskSteps(OneConnection(life.connection), gateway, nodes)


async def collect(life: Life, close_as: Outcome | None, attempt: int = 1) -> Collected:
    return await ActivityEnvironment().run(steps(life).collect, CollectInput("t", attempt, close_as))


async def ago(life: Life, column: str, seconds: float) -> None:
    await life.do(f"UPDATE attempts SET {column} = clock_timestamp() - make_interval(secs => %(s)s)", s=seconds)


async def is_open(life: Life) -> bool:
    return bool(await life.scalar("SELECT closed_at IS NULL FROM attempts WHERE task_id = 't'"))


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {Outcome.TIMED_OUT, Outcome.UNREACHABLE}))
@pytest.mark.parametrize("accepted", [True, False])
async def test_no_other_end_can_be_asked_for(held: Life, outcome: Outcome, *, accepted: bool) -> None:
    if accepted:
        await accept_attempt.accept(held.connection, "t", 1, actor="test")
        await ago(held, "accepted_at", 2 * TIMEOUT_S)
    await ago(held, "claimed_at", 3 * TIMEOUT_S)
    status = TaskStatus.PROCESSING if accepted else TaskStatus.QUEUED
    assert await collect(held, outcome) == Collected(None, status)
    assert await is_open(held)


@pytest.mark.parametrize(
    ("outcome", "accepted_s_ago", "claimed_s_ago", "closes"),
    [
        (Outcome.TIMED_OUT, TIMEOUT_S + 1, TIMEOUT_S + 2, True),
        (Outcome.TIMED_OUT, TIMEOUT_S - 0.2, TIMEOUT_S + 1, True),  # waited for
        (Outcome.TIMED_OUT, TIMEOUT_S - SOON_S - 1, TIMEOUT_S + 1, False),
        (Outcome.TIMED_OUT, 0, 0, False),
        (Outcome.TIMED_OUT, None, TIMEOUT_S + 1, True),  # that its node has accepted it was not recorded
        (Outcome.TIMED_OUT, None, TIMEOUT_S - SOON_S - 1, False),
        (Outcome.TIMED_OUT, -7200, -7200, True),  # the clock was set back
        (Outcome.UNREACHABLE, None, DELIVERY_S + 1, True),
        (Outcome.UNREACHABLE, None, -7200, True),
        (Outcome.UNREACHABLE, 1, 10 * TIMEOUT_S, False),
        (Outcome.UNREACHABLE, -7200, -7200, False),
    ],
)
async def test_an_attempt_is_closed_when_its_time_is_over(
    held: Life, outcome: Outcome, accepted_s_ago: float | None, claimed_s_ago: float, *, closes: bool
) -> None:
    await ago(held, "claimed_at", claimed_s_ago)
    if accepted_s_ago is not None:
        await accept_attempt.accept(held.connection, "t", 1, actor="test")
        await ago(held, "accepted_at", accepted_s_ago)
    collected = await collect(held, outcome)
    assert await is_open(held) is not closes
    assert collected.outcome == (outcome if closes else None)
    if closes and accepted_s_ago is not None:
        assert await held.scalar(
            "SELECT closed_at >= accepted_at + make_interval(secs => %(s)s) OR accepted_at > closed_at FROM attempts",
            s=TIMEOUT_S,
        )


async def test_what_was_claimed_a_moment_ago_is_not_unreachable_yet(held: Life) -> None:
    due = await collect_attempt.due_in_s(held.connection, "t", 1, Outcome.UNREACHABLE)
    assert due == pytest.approx(DELIVERY_S, abs=1)


@pytest.mark.parametrize("attempt", [0, 2, 999])
async def test_an_attempt_that_is_not_there_closes_nothing(held: Life, attempt: int) -> None:
    for outcome in (None, *Outcome):
        assert await collect(held, outcome, attempt) == Collected(None, TaskStatus.QUEUED)


async def test_no_task_is_completed_without_a_result(held: Life) -> None:
    with pytest.raises(ValueError, match="without a result"):
        End(Outcome.SUCCEEDED)
    await accept_attempt.accept(held.connection, "t", 1, actor="test")
    await held.do(
        "UPDATE attempts SET outcome = 'SUCCEEDED', closed_at = clock_timestamp()"
    )  # what wrote past all that
    with pytest.raises(LookupError):
        await collect(held, None)
    assert (await held.task("t")).status == "PROCESSING"
    assert (await verify.find(held.connection, invariants.ONE_RESULT)).violations == 1


async def test_only_what_is_closed_is_stopped_on_its_node(held: Life) -> None:
    nodes = MagicMock(cancel=AsyncMock(return_value=STOPPED))
    stop = steps(held, nodes).stop_on_node
    await ActivityEnvironment().run(stop, AttemptRef("t", 1))
    nodes.cancel.assert_not_called()
    await held.connection.execute("UPDATE attempts SET outcome = 'TIMED_OUT', closed_at = clock_timestamp()")
    await ActivityEnvironment().run(stop, AttemptRef("t", 1))
    nodes.cancel.assert_called_once()


UNSEEN, STOPPED, RUNS = NodeAnswer(404, {}), NodeAnswer(200, {"stopped": True}), NodeAnswer(200, {"stopped": False})
NOT_STOPPED = [NodeUnreachable("silent"), RUNS, NodeAnswer(200, {"stopped": "yes"})] + [
    NodeAnswer(status, {"stopped": True}) for status in (NO_HTTP, 202, 204, 500, 503)
]


@pytest.mark.parametrize("answer", NOT_STOPPED, ids=str)
async def test_a_stop_is_repeated_while_an_active_node_does_not_say_that_it_is_done(held: Life, answer: Any) -> None:
    await held.connection.execute("UPDATE attempts SET outcome = 'TASK_ENDED', closed_at = clock_timestamp()")
    stop = steps(held, MagicMock(cancel=AsyncMock(side_effect=[answer, answer, STOPPED]))).stop_on_node
    with pytest.raises(ApplicationError) as raised:
        await ActivityEnvironment().run(stop, AttemptRef("t", 1))
    assert (raised.value.non_retryable, raised.value.category) == (False, ApplicationErrorCategory.BENIGN)
    await held.do("UPDATE gpus SET status = 'OFFLINE'")
    await ActivityEnvironment().run(stop, AttemptRef("t", 1))  # it is asked when it is back
    assert await held.scalar("SELECT released_at IS NULL FROM attempts")
    await held.do("UPDATE gpus SET status = 'ACTIVE'")
    await ActivityEnvironment().run(stop, AttemptRef("t", 1))
    assert await held.scalar("SELECT released_at IS NOT NULL FROM attempts")


async def test_a_node_without_the_field_has_stopped_a_moment_after_its_answer(
    held: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_answers, "STOPPING_S", 0.0)
    await held.connection.execute("UPDATE attempts SET outcome = 'TASK_ENDED', closed_at = clock_timestamp()")
    nodes = MagicMock(cancel=AsyncMock(return_value=NodeAnswer(200, {"status": "canceled"})))
    await ActivityEnvironment().run(steps(held, nodes).stop_on_node, AttemptRef("t", 1))
    assert await held.scalar("SELECT released_at IS NOT NULL FROM attempts")


def test_a_stop_that_is_under_way_ends_before_verify_misses_the_end_of_its_workflow() -> None:
    longest_s = 2 * TOTAL_S + 2 * STOPPING_S
    assert longest_s < policies.STOP_TRY.total_seconds() < policies.STOP_TIMEOUT.total_seconds()
    assert Settings().heartbeat_timeout < policies.STOP_TIMEOUT.total_seconds() < overdue.OVERDUE_S


@pytest.mark.parametrize("answers", [[UNSEEN, UNSEEN], [UNSEEN, STOPPED]])
async def test_a_node_that_has_never_seen_it_is_asked_again_since_the_dispatch_may_have_been_under_way(
    held: Life, monkeypatch: pytest.MonkeyPatch, answers: list[NodeAnswer]
) -> None:
    monkeypatch.setattr(tasks, "STOPPING_S", 0.0)
    await held.connection.execute("UPDATE attempts SET outcome = 'TASK_ENDED', closed_at = clock_timestamp()")
    nodes = MagicMock(cancel=AsyncMock(side_effect=answers))
    await ActivityEnvironment().run(steps(held, nodes).stop_on_node, AttemptRef("t", 1))
    assert nodes.cancel.await_count == 2
    assert await held.scalar("SELECT released_at IS NOT NULL FROM attempts")

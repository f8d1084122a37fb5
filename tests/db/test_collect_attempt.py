"""How a task's workflow takes note of a closed attempt, in one statement or in several."""

from __future__ import annotations

import pytest

from infra.db.transactions import collect_attempt, settle_attempt
from tests.db.life import Life
from tests.db.sessions import Session
from workflows.domain.attempt import End, Outcome
from workflows.domain.task import TaskStatus
from workflows.messages import Collected

DONE = Collected(Outcome.SUCCEEDED, TaskStatus.COMPLETED)


@pytest.fixture
async def life(connection: Session) -> Life:
    life = Life(connection)
    await life.node("n", [1])
    await life.create("t", max_retries=0)
    assert await life.claim("t") == "n"
    return life


async def close(life: Life, outcome: Outcome) -> None:
    result, reason = ("{}", None) if outcome is Outcome.SUCCEEDED else (None, "r")
    settled = await settle_attempt.settle(life.connection, "t", 1, End(outcome, reason, result), actor="test")
    assert settled.answer is settle_attempt.SettleResult.SETTLED


async def statuses(life: Life) -> list[str]:
    rows = await life.scalar("SELECT array_agg(to_status ORDER BY seq) FROM task_events WHERE task_id = 't'")
    return list(rows)


async def test_a_success_is_completed_in_one_statement_and_once(life: Life) -> None:
    await close(life, Outcome.SUCCEEDED)
    assert await collect_attempt.complete(life.connection, "t", 1) == DONE
    assert await collect_attempt.complete(life.connection, "t", 1) is None
    assert await collect_attempt.collect(life.connection, "t", 1) == DONE  # what a repeated step is answered
    assert await statuses(life) == ["QUEUED", "PROCESSING", "COMPLETED"]
    assert await life.scalar("SELECT collected_at IS NOT NULL FROM attempts WHERE task_id = 't'")
    assert (await life.task("t")).completed_at is not None


async def test_an_open_attempt_is_left_alone(life: Life) -> None:
    assert await collect_attempt.complete(life.connection, "t", 1) is None
    assert await statuses(life) == ["QUEUED"]
    assert await life.scalar("SELECT collected_at IS NULL FROM attempts WHERE task_id = 't'")


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REJECTED, Outcome.TIMED_OUT, Outcome.HANDED_BACK])
async def test_any_other_end_is_left_to_collect(life: Life, outcome: Outcome) -> None:
    await close(life, outcome)
    before = await statuses(life)
    assert await collect_attempt.complete(life.connection, "t", 1) is None
    assert await statuses(life) == before
    assert (await collect_attempt.collect(life.connection, "t", 1)).outcome is outcome


async def test_a_task_that_ends_at_its_first_dispatch_is_no_outbox_entry(life: Life) -> None:
    await life.do("UPDATE tasks SET engine_started_at = NULL WHERE task_id = 't'")  # as after a claim at its creation
    await close(life, Outcome.REJECTED)
    assert (await collect_attempt.collect(life.connection, "t", 1)).status is TaskStatus.FAILED
    assert (await life.task("t")).engine_started_at is not None

"""Attempts that hold a slot: an open one, and for a moment a closed one that its node may still run."""

from __future__ import annotations

import pytest

from infra.db import holding
from infra.db.attempts import queries
from infra.db.nodes import queries as node_queries
from infra.db.transactions import node_state, release_attempt
from tests.db.life import Life
from workflows.domain.attempt import HELD_S, NODE_STILL_RUNS_IT, Outcome


@pytest.fixture
async def busy(life: Life) -> Life:
    """A node with one slot, which the task `first` holds; `second` waits."""
    await life.node("n", [1])
    await life.create("first", claims_slot=True)
    await life.create("second")
    assert await life.claim("second") is None
    return life


UNCONFIRMED = sorted(NODE_STILL_RUNS_IT | {Outcome.LOST})


async def close(life: Life, outcome: Outcome, age_s: float = 0) -> None:
    """Close as a program of the previous version does: without a word about the release."""
    await life.do(
        "UPDATE attempts SET outcome = %(outcome)s, closed_at = clock_timestamp() - make_interval(secs => %(age)s),"
        " claimed_at = claimed_at - interval '1 h', collected_at = clock_timestamp()",
        outcome=outcome,
        age=age_s,
    )


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - NODE_STILL_RUNS_IT))
async def test_a_close_by_the_node_frees_the_slot_whatever_is_recorded(busy: Life, outcome: Outcome) -> None:
    await close(busy, outcome)
    assert await busy.claim("second") == "n"


@pytest.mark.parametrize("outcome", sorted(NODE_STILL_RUNS_IT))
async def test_what_the_node_may_still_run_holds_the_slot_for_ten_seconds(busy: Life, outcome: Outcome) -> None:
    await close(busy, outcome)
    assert await busy.claim("second") is None
    await close(busy, outcome, HELD_S + 0.1)
    assert await busy.claim("second") == "n"


async def test_after_the_clock_was_set_back_nothing_is_held_for_hours(busy: Life) -> None:
    await close(busy, Outcome.TIMED_OUT, -3600)
    assert await busy.claim("second") == "n"


async def test_what_holds_nothing_any_more_is_recorded(busy: Life) -> None:
    async def unreleased() -> int:
        return int(await busy.scalar("SELECT count(*) FROM attempts WHERE released_at IS NULL"))

    await close(busy, Outcome.TIMED_OUT)
    await release_attempt.record(busy.connection, 10)
    assert await unreleased() == 1
    await close(busy, Outcome.SUCCEEDED, HELD_S + 0.1)
    await release_attempt.record(busy.connection, 0)
    assert await unreleased() == 1
    await release_attempt.record(busy.connection, 10)
    assert await unreleased() == 0


async def to_stop(life: Life) -> list[str]:
    return [one.task_id for one in await queries.to_stop_on(life.connection, "n")]


@pytest.mark.parametrize("outcome", Outcome)
async def test_what_a_node_has_not_confirmed_is_stopped_when_it_is_back(busy: Life, outcome: Outcome) -> None:
    await close(busy, outcome, 5 * 3600)
    expected = ["first"] if outcome in UNCONFIRMED else []
    assert await to_stop(busy) == expected
    await release_attempt.record(busy.connection, 10)  # by the clock, which stops no process
    assert await to_stop(busy) == expected
    await busy.do("UPDATE gpus SET status = 'OFFLINE'")
    await node_state.come_back(busy.connection, "n")
    assert await busy.scalar("SELECT not_before > clock_timestamp() FROM gpus") is (True if expected else None)
    node = await node_queries.get(busy.connection, "n")
    assert node is not None
    assert node.is_back == bool(expected)


@pytest.mark.parametrize("age_s", [0.0, 25 * 3600.0])
async def test_what_it_has_confirmed_is_not_asked_for_again_nor_is_anything_after_a_day(
    busy: Life, age_s: float
) -> None:
    await close(busy, Outcome.TASK_ENDED, age_s)
    await release_attempt.release(busy.connection, "first", 1)
    assert await to_stop(busy) == []


async def test_the_attempts_to_stop_are_read_from_an_index_that_holds_nothing_else(busy: Life) -> None:
    await busy.do("SET LOCAL enable_seqscan = off")
    await busy.do("SET LOCAL enable_bitmapscan = off")
    await busy.do("SET LOCAL enable_sort = off")
    query = (
        "SELECT 1 FROM attempts a JOIN gpus g USING (gpu_id)"
        f" WHERE a.gpu_id = 'n' AND {holding.IS_TO_STOP} ORDER BY a.closed_at DESC LIMIT 100"
    )
    plan = await busy.connection.all(str, f"EXPLAIN {query}")
    assert "ix_attempts_unconfirmed" in "\n".join(plan)

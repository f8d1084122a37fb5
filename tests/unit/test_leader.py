"""The leader's turn, on jobs that fail."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import AsyncMock

import psycopg
import pytest

from infra.db.ops import counters
from infra.db.session import ANSWER_S, NoAnswer
from infra.settings import Settings
from workers.leader.leader import Job, Leader


@pytest.fixture
def leader_of() -> Callable[..., Leader]:
    """A leader with these jobs in the place of its own."""

    def make(*jobs: Job) -> Leader:
        leader = Leader(AsyncMock(), AsyncMock(), Settings())
        leader._jobs = jobs
        return leader

    return make


async def test_a_job_that_fails_delays_no_other(leader_of, caplog):
    before, fails, after = AsyncMock(), AsyncMock(side_effect=ValueError("a defect")), AsyncMock()
    await leader_of(before, fails, after).turn()
    assert (before.await_count, after.await_count) == (1, 1)
    assert "a job of the leader failed" in caplog.text
    assert "a defect" in caplog.text


async def test_a_job_that_waits_in_vain_for_a_row_delays_no_other(leader_of):
    after = AsyncMock()
    await leader_of(AsyncMock(side_effect=NoAnswer("no answer within 8 s")), after).turn()
    after.assert_awaited_once()


async def test_a_turn_ends_at_once_while_the_database_is_away(leader_of):
    after = AsyncMock()
    with pytest.raises(psycopg.OperationalError):
        await leader_of(AsyncMock(side_effect=psycopg.OperationalError("away")), after).turn()
    after.assert_not_awaited()


async def test_the_fold_delays_no_other_job_however_much_has_come_without_a_leader():
    database = AsyncMock()
    await Leader(database, AsyncMock(), Settings())._jobs[-1]()
    assert database.run.await_args.args[0].func is counters.fold
    assert database.run.await_args.kwargs["within_s"] > ANSWER_S

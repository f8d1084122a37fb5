"""The progress of a task, from its node's reports until its end."""

from __future__ import annotations

from datetime import datetime

import pytest

from infra.db.attempts import open_attempts
from infra.db.tasks import queries
from infra.db.transactions import accept_attempt, collect_attempt
from tests.db.life import Life
from workflows.domain.attempt import Outcome


async def shown(life: Life) -> tuple[str, int | None, int | None, datetime | None]:
    row = await queries.progress(life.connection, "t")
    assert row is not None
    return row.status, row.attempt, row.progress, row.progress_at


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED])
async def test_it_stays_while_the_end_of_the_attempt_waits_to_be_collected(fleet: Life, outcome: Outcome) -> None:
    await fleet.create("t", claims_slot=True)
    await accept_attempt.accept(fleet.connection, "t", 1, actor="test")
    await open_attempts.record_progress(fleet.connection, "t", 1, 95)
    running = await shown(fleet)
    assert running[:3] == ("PROCESSING", 1, 95)
    await fleet.settle("t", outcome)
    assert await shown(fleet) == running


async def test_it_starts_over_with_the_next_attempt(fleet: Life) -> None:
    await fleet.create("t", claims_slot=True)
    await accept_attempt.accept(fleet.connection, "t", 1, actor="test")
    await open_attempts.record_progress(fleet.connection, "t", 1, 95)
    await fleet.end("t", Outcome.FAILED)
    assert await shown(fleet) == ("QUEUED", None, None, None)
    await fleet.claim("t")
    assert await shown(fleet) == ("QUEUED", 2, None, None)
    await accept_attempt.accept(fleet.connection, "t", 2, actor="test")
    assert await shown(fleet) == ("PROCESSING", 2, None, None)
    await fleet.settle("t")
    assert await collect_attempt.complete(fleet.connection, "t", 2) is not None
    assert await shown(fleet) == ("COMPLETED", None, None, None)

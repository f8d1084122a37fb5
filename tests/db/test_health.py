"""Outcomes that count for the health of tasks."""

from __future__ import annotations

import pytest

from infra.db.ops import health
from infra.db.transactions import end_task
from infra.db.transactions.end_task import TaskEnd
from tests.db.life import Life
from workflows.domain.attempt import Outcome
from workflows.domain.health import Health
from workflows.domain.task import FROM_OUTSIDE, EndReason


async def task_health(life: Life) -> Health:
    return (await health.read(life.connection, 15.0)).levels.task


@pytest.mark.parametrize("reason", sorted(FROM_OUTSIDE))
async def test_what_was_ended_from_outside_is_nobodys_failure(life: Life, reason: EndReason) -> None:
    await life.do("UPDATE tasks SET completed_at = completed_at - interval '1 d' WHERE completed_at IS NOT NULL")
    await life.node("n", [1])
    for number in range(100):
        await life.create(f"done{number}", claims_slot=True)
        await life.end(f"done{number}")
    for number in range(60):
        await life.create(f"ended{number}", 2)
        ended = await end_task.end(life.connection, f"ended{number}", TaskEnd(reason, "test", "enough"))
        assert ended.changed
    assert await task_health(life) is Health.HEALTHY
    for number in range(60):
        await life.create(f"failed{number}", max_retries=0, claims_slot=True)
        await life.end(f"failed{number}", Outcome.FAILED, f"boom {number}")
        await life.do("UPDATE gpus SET not_before = NULL, rests = 0, status = 'ACTIVE'")
    assert await task_health(life) is Health.UNHEALTHY

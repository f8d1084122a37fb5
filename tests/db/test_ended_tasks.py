"""The leader tells workflows of the ends of their tasks that came from outside."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

import pytest

from infra.db.slots import assign
from infra.db.tasks import outbox
from infra.db.transactions import end_task
from infra.db.transactions.end_task import TaskEnd
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from tests.db import rows
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from tests.db.rows import NOW
from workers.leader import ended_tasks
from workflows.domain.task import EndReason

CANCELLED = TaskEnd(EndReason.CANCELLED, "test", "cancelled")


@pytest.fixture
async def cancelled(life: Life) -> Life:
    """Tasks that waited when they were cancelled, and then one that a node had."""
    for task_id in ("first", "second"):
        await rows.task(life.connection, task_id, waiting_since=NOW)
        assert (await end_task.end(life.connection, task_id, CANCELLED)).changed
    await life.node("n", [1])
    await rows.task(life.connection, "on node", waiting_since=NOW)
    await assign.assign(life.connection, "n")
    assert (await end_task.end(life.connection, "on node", CANCELLED)).changed
    await life.do("UPDATE outbox_ends SET ended_at = ended_at - interval '3 s'")
    return life


async def told(life: Life, *answers: object) -> list[str]:
    """The tasks whose workflows are asked to cancel, in order."""
    end = AsyncMock(side_effect=answers or None)
    await ended_tasks.tell_ended_tasks(OneConnection(life.connection), MagicMock(end=end))
    return [call.args[0] for call in end.await_args_list]


async def test_what_a_node_may_still_run_is_told_first_then_the_oldest(
    cancelled: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_tasks, "AT_ONCE", 2)
    assert await told(cancelled) == ["on node", "first"]
    assert await told(cancelled) == ["second"]
    assert await told(cancelled) == []


async def test_one_that_could_not_be_told_is_told_again(cancelled: Life) -> None:
    assert len(await told(cancelled, TemporalAway(), NoSuchWorkflow(), None)) == 3
    assert await told(cancelled) == ["on node"]


async def test_the_notification_after_the_commit_has_a_moment_to_arrive(cancelled: Life) -> None:
    await cancelled.do("UPDATE outbox_ends SET ended_at = clock_timestamp()")
    assert await outbox.untold_ends(cancelled.connection, 10) == []

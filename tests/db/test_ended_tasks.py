"""The leader notifies workflows of the ends of their tasks that came from outside."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

import pytest

from infra.db.slots import assign
from infra.db.tasks import outbox
from infra.db.transactions import cancel_task, claim_slot, end_task
from infra.db.transactions.claim_slot import TaskEnded
from infra.db.transactions.end_task import TaskEnd
from infra.temporal.access import NoSuchWorkflow, TemporalAway
from infra.temporal.open_workflows import RunStatus
from tests.db import rows
from tests.db.life import Life
from tests.db.one_connection import OneConnection
from tests.db.rows import NOW
from workers.leader import ended_tasks
from workers.leader.ended_tasks import EndedTasks
from workflows.domain.errors import TaskNotFound
from workflows.domain.task import EndReason
from workflows.messages import Grant

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


async def notified(life: Life, *answers: object) -> list[str]:
    """The tasks whose workflows are asked to cancel, in order."""
    return (await calls(life, RunStatus.RUNNING, *answers))[0]


async def calls(life: Life, status: RunStatus, *answers: object) -> tuple[list[str], list[str]]:
    """The tasks whose workflows are asked to cancel, and those that are run again before."""
    end, start = AsyncMock(side_effect=answers or None), AsyncMock()
    temporal, workflows = MagicMock(end=end, start_task=start), MagicMock(run_status=AsyncMock(return_value=status))
    await EndedTasks(OneConnection(life.connection), temporal, workflows).notify()
    return [call.args[0] for call in end.await_args_list], [call.args[0].task_id for call in start.await_args_list]


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (RunStatus.RUNNING, []),
        (RunStatus.CANCELED, []),
        (RunStatus.FAILED, []),
        (RunStatus.CUT_OFF, ["on node"]),
        (RunStatus.ABSENT, ["on node"]),
    ],
)
async def test_where_no_run_has_heard_of_it_a_new_one_stops_the_node(
    cancelled: Life, status: RunStatus, again: list[str]
) -> None:
    asked, started = await calls(cancelled, status)
    assert (sorted(asked), started) == (["first", "on node", "second"], again)
    claim = await claim_slot.claim(cancelled.run, "on node")
    assert claim.result == TaskEnded(cancelled=True, running=Grant(1, "n"))


async def test_a_node_is_asked_to_stop_also_after_its_slot_was_freed_by_the_clock(cancelled: Life) -> None:
    await cancelled.do("UPDATE attempts SET released_at = clock_timestamp()")
    assert (await claim_slot.claim(cancelled.run, "on node")).result == TaskEnded(cancelled=True, running=Grant(1, "n"))
    assert (await end_task.end(cancelled.connection, "on node", CANCELLED)).running == Grant(1, "n")
    assert (await end_task.end(cancelled.connection, "first", CANCELLED)).running is None


async def test_what_a_node_may_still_run_is_notified_first_then_the_oldest(
    cancelled: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_tasks, "AT_ONCE", 2)
    assert await notified(cancelled) == ["on node", "first"]
    assert await notified(cancelled) == ["second"]
    assert await notified(cancelled) == []


async def test_one_that_could_not_be_notified_is_notified_again(cancelled: Life) -> None:
    assert len(await notified(cancelled, TemporalAway(), NoSuchWorkflow(), None)) == 3
    assert await notified(cancelled) == ["on node"]


async def test_the_notification_after_the_commit_has_a_moment_to_arrive(cancelled: Life) -> None:
    await cancelled.do("UPDATE outbox_ends SET ended_at = clock_timestamp()")
    assert await outbox.pending_ends(cancelled.connection, 10) == []


async def test_a_task_that_was_forgotten_meanwhile_is_not_there(life: Life) -> None:
    with pytest.raises(TaskNotFound):
        await cancel_task.cancel(life.connection, rows.CREATOR, "forgotten", None)

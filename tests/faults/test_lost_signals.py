"""Signals that were lost after their commit, as when a process is killed in between: the reconciler makes up for them.

Found by the nemesis: a task that had missed the grant of an attempt, and then heard only that the attempt was closed,
waited on for ten minutes.
"""

from __future__ import annotations

from infra.db.nodes.queries import Registration
from infra.db.session import Database
from infra.db.transactions import node_state, settle_attempt
from tests.conftest import eventually
from tests.e2e.conftest import side_by_side, together
from tests.e2e.inside import is_started, select
from workflows.domain.attempt import End, Outcome
from workflows.notifications import ClosedAttempt

__all__ = ["together"]  # a fixture: the tests that run side by side

SLOW = 60.0
WAITS = "SELECT waiting_since IS NOT NULL AS waits FROM tasks WHERE task_id = %s"
TASK_TYPE, RETRIED_TYPE = 421, 422


@side_by_side
async def test_an_attempt_that_came_and_went_unheard_is_collected_before_the_first_step(
    api, make_node, stack, temporal
):
    task_id = await api.create(TASK_TYPE)
    await eventually(lambda: is_started(temporal, task_id))
    await come_and_go(stack, task_id, TASK_TYPE)
    await eventually(lambda: waits(stack, task_id), within=SLOW)
    heir = await make_node("heard", [TASK_TYPE])
    put = await heir.next_put(SLOW)
    assert put.run_id == f"{task_id}-2"
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0


@side_by_side
async def test_it_is_collected_also_by_a_workflow_that_waits_for_a_retry(api, make_node, stack):
    node = await make_node("busy", [RETRIED_TYPE])
    task_id = await api.create(RETRIED_TYPE)
    first = await node.next_put()
    await api.create(RETRIED_TYPE)
    await api.say(first, "FAILED", "boom")
    running = await node.next_put()
    await eventually(lambda: waits(stack, task_id))
    await come_and_go(stack, task_id, RETRIED_TYPE, attempt=2)
    await eventually(lambda: waits(stack, task_id), within=SLOW)
    await api.succeed(running, {})
    put = await node.next_put(SLOW)
    assert put.run_id == f"{task_id}-3"
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 1


async def waits(stack, task_id: str) -> bool:
    (row,) = await select(stack, WAITS, task_id)
    return bool(row["waits"])


async def come_and_go(stack, task_id: str, task_type: int, attempt: int = 1) -> None:
    """A node takes the task and is gone, and the task is not notified."""
    database = Database(stack.services.database_url, connections=2)
    gpu_id = f"unheard_{attempt}"
    node = Registration(gpu_id, "h", None, "127.0.0.1", 9, [task_type], "NORMAL", "1", 1, {}, None, "k")
    try:
        registered = await database.run(lambda c: node_state.register(c, node))
        assert [granted.task.task_id for granted in registered.grants] == [task_id]
        settled = await database.run(
            lambda c: settle_attempt.settle(c, task_id, attempt, End(Outcome.DEREGISTERED, "gone"), actor="test")
        )
        assert (settled.notifications.closed, settled.notifications.grants) == ([ClosedAttempt(task_id, attempt)], [])
        await database.run(lambda c: node_state.deregister(c, gpu_id))
    finally:
        await database.close()

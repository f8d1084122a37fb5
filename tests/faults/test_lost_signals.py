"""Signals that were lost after their commit, as when a process is killed in between: the reconciler makes up for them.

Found by the nemesis: a task that had missed the grant of an attempt, and then heard only that the attempt was closed,
waited on for ten minutes.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from infra.db import attempts, gpus
from infra.db.engine import Database
from infra.db.gpus import Registration
from infra.db.notifications import ClosedAttempt
from infra.forecast import FRESH_S
from tests.conftest import eventually
from tests.e2e.inside import select
from workflows.domain.attempt import Outcome

SLOW = 60.0
WAITS = "SELECT engine_started_at IS NOT NULL AND waiting_since IS NOT NULL AS waits FROM tasks WHERE task_id = %s"
RESTS = text("UPDATE gpus SET not_before = clock_timestamp() + interval '50 s' WHERE gpu_id = 'unheard'")
TASK_TYPE, BATCH_TYPE = 421, 422
BATCH = 35  # the tests' stack lets one of a batch look every two seconds, for a minute


async def test_an_attempt_that_came_and_went_unheard_is_collected(api, make_node, stack, temporal):
    task_id = await api.create(TASK_TYPE)
    workflow = temporal.get_workflow_handle(f"task-{task_id}")

    async def waits() -> bool:
        return (await workflow.describe()).history_length > 5

    await eventually(waits)
    await come_and_go(stack, task_id, TASK_TYPE)
    heir = await make_node("heard", [TASK_TYPE])
    put = await heir.next_put(SLOW)
    assert put.run_id == f"{task_id}-2"
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0


async def test_it_is_collected_also_before_the_first_step(api, make_node, stack, temporal):
    """Of a batch so large that its last task would take its first step in half an hour."""
    node = await make_node("busy", [BATCH_TYPE])
    await api.create(BATCH_TYPE)
    running = await node.next_put()
    await asyncio.sleep(FRESH_S)  # longer than what is known of the free slots counts
    batch = [await api.create(BATCH_TYPE) for _ in range(BATCH)]
    urgent = await api.create(BATCH_TYPE, priority=2)
    workflow = temporal.get_workflow_handle(f"task-{urgent}")
    assert (await workflow.describe()).history_length == 1
    await come_and_go(stack, urgent, BATCH_TYPE)

    async def waits_again() -> bool:
        (row,) = await select(stack, WAITS, urgent)
        return bool(row["waits"])

    await eventually(waits_again, within=SLOW)
    await api.succeed(running, {})
    put = await node.next_put(SLOW)
    assert put.run_id == f"{urgent}-2"
    await api.succeed(put, {})
    for _ in batch:
        await api.succeed(await node.next_put(), {})
    assert (await api.until(urgent, "COMPLETED"))["retryCount"] == 0


async def come_and_go(stack, task_id: str, task_type: int) -> None:
    """A node takes the task and is gone, and nobody tells the task."""
    database = Database(stack.services.database_url, connections=2)
    node = Registration("unheard", "h", None, "127.0.0.1", 9, [task_type], "NORMAL", "1", 1, {}, None, "k")
    try:
        registered = await database.run(lambda c: gpus.register(c, node, strict_vip=False))
        assert [granted.task_id for granted in registered.grants] == [task_id]
        await database.run(lambda c: c.execute(RESTS))  # so that nobody else gets the slot
        settled = await database.run(
            lambda c: attempts.settle(
                c, task_id, 1, Outcome.DEREGISTERED, actor="test", reason="gone", strict_vip=False
            )
        )
        assert settled is not None
        assert (settled.closed, settled.grants) == ([ClosedAttempt(task_id, 1)], [])
        await database.run(lambda c: gpus.deregister(c, "unheard"))
    finally:
        await database.close()

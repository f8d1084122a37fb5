"""Signals that were lost after their commit, as when a process is killed in between: the reconciler makes up for them.

Found by the nemesis: a task that had missed the grant of an attempt, and then heard only that the attempt was closed,
waited on for ten minutes.
"""

from __future__ import annotations

from infra.db import attempts, gpus
from infra.db.engine import Database, create_engine
from infra.db.gpus import Registration
from tests.conftest import eventually
from workflows.domain.attempt import Outcome

SLOW = 60.0
TASK_TYPE = 421


async def test_an_attempt_that_came_and_went_unheard_is_collected(api, make_node, stack, temporal):
    task_id = await api.create(TASK_TYPE)
    workflow = temporal.get_workflow_handle(f"task-{task_id}")

    async def waits() -> bool:
        return (await workflow.describe()).history_length > 5

    await eventually(waits)
    database = Database(create_engine(stack.services.database_url, pool_size=1))
    node = Registration("unheard", "h", None, "127.0.0.1", 9, [TASK_TYPE], "NORMAL", "1", 1, {}, None, "k")
    try:
        registered = await database.run(lambda c: gpus.register(c, node, strict_vip=False))
        assert [granted.task_id for granted in registered.granted] == [task_id]  # and nobody tells the task
        settled = await database.run(
            lambda c: attempts.settle(
                c, task_id, 1, Outcome.DEREGISTERED, actor="test", reason="gone", strict_vip=False
            )
        )
        assert settled is not None
        assert settled.settled == [(task_id, 1)]
        await database.run(lambda c: gpus.deregister(c, "unheard"))
    finally:
        await database.close()

    heir = await make_node("heard", [TASK_TYPE])
    put = await heir.next_put(SLOW)
    assert put.run_id == f"{task_id}-2"
    await api.succeed(put, {})
    assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0

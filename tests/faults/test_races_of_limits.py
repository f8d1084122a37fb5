"""The races of a task's expiry, each reached for certain: contenders are seen to wait for one lock.

| race | test |
|---|---|
| a task expires while it is claimed | test_an_assignment_passes_over_…, test_an_expiry_that_waits_behind_the_assign… |
| a task expires while its node accepts it | test_an_expiry_that_waits_behind_the_acceptance_does_nothing |
| a result while the deadline of its task passes | db/test_task_limits.py: test_a_result_that_was_accepted_… |
"""

from __future__ import annotations

import asyncio
from functools import partial

from infra.db.transactions import accept_attempt, end_at_limit
from tests.e2e.inside import select
from tests.faults.contention import SETTLES, held
from tests.faults.test_races import notify, running, settle
from workflows.domain.attempt import Outcome
from workflows.domain.task import EndReason

ENDS_WAITING = "SELECT unnest(CAST("
ATTEMPTS = "SELECT attempt FROM attempts WHERE task_id = %s"


def expire_waiting(task_id):
    return partial(end_at_limit.end_waiting, task_ids=[task_id], reason=EndReason.EXPIRED, actor="test")


async def test_an_assignment_passes_over_a_task_that_is_expiring(api, make_node, stack):
    node = await make_node("expiring", [630])
    put = await running(api, node, 630)
    expired, other = await api.create(630), await api.create(630)
    async with held(stack) as leader:
        assert await expire_waiting(expired)(leader.connection) == [expired]
        await api.succeed(put, {})
        assert (await node.next_put()).task_id == other
        await leader.commit()
    assert await select(stack, ATTEMPTS, expired) == []
    assert (await api.get(f"/tasks/{expired}"))["endReason"] == "EXPIRED"


async def test_an_expiry_that_waits_behind_the_assignment_leaves_the_task_to_the_next_look(
    api, make_node, stack, database, temporal
):
    node = await make_node("claimed_first", [631])
    put = await running(api, node, 631)
    task_id = await api.create(631)
    async with held(stack) as release:
        assert await settle(release.connection, put, Outcome.SUCCEEDED, result="{}") is not None
        expiry = asyncio.create_task(database.run(expire_waiting(task_id)))
        await release.until_waiting(ENDS_WAITING)
        await release.commit()
        assert await expiry == []
    ended = await database.run(lambda c: end_at_limit.end(c, task_id, EndReason.EXPIRED, actor="test"))
    assert ended.changed
    await notify(temporal, put.task_id)
    assert (await api.get(f"/tasks/{task_id}"))["endReason"] == "EXPIRED"


async def test_an_expiry_that_waits_behind_the_acceptance_does_nothing(api, make_node, stack, database):
    node = await make_node("accepts_first", [632])
    node.hold = asyncio.Event()
    task_id = await api.create(632)
    put = await node.next_put()
    async with held(stack) as worker:
        assert await accept_attempt.accept(worker.connection, task_id, 1, actor="test")
        expiry = asyncio.create_task(
            database.run(lambda c: end_at_limit.end(c, task_id, EndReason.EXPIRED, actor="test"))
        )
        await worker.until_waiting(SETTLES)
        await worker.commit()
        ended = await expiry
    assert (ended.changed, ended.status) == (False, "PROCESSING")
    node.hold.set()
    await api.succeed(put, {})
    await api.until(task_id, "COMPLETED")

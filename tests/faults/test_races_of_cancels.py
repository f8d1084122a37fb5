"""The rows of INVARIANTS, "Races and their outcomes", of a cancel, in both orders.

| race | test |
|---|---|
| cancel while the result is being accepted | …_cancel_is_late, …_result_is_refused |
| cancel of a task whose workflow has not begun | test_a_cancel_and_the_start_… |
| cancel and timeout | …_cancel_does_nothing, …_behind_the_timeout |
| cancel and the claim of a waiting task | …_passes_over_…, …_behind_the_assignment_… |
| cancel and deregistration; two cancels | …_a_deregistration, …_two_cancels_… |
| cancel, result and timeout, thousands of times | test_cancel_races |
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from infra.db.tasks import outbox
from infra.db.transactions import cancel_task
from infra.temporal.task_workflows import UNTIL_ITS_GRANT, task_workflow_id
from tests.conftest import eventually
from tests.db.life import Life
from tests.db.rows import CREATOR
from tests.e2e.inside import select
from tests.e2e.test_cancel import cancel
from tests.e2e.test_endings import closed_as
from tests.faults.contention import CHANGES_NODE, ENDS, SETTLES, held
from tests.faults.test_races import LATE_RESULT, late, notify, running, settle, statuses
from workflows.domain.attempt import Outcome
from workflows.messages import TaskInput
from workflows.task import TaskWorkflow

CANCELED = WorkflowExecutionStatus.CANCELED
CANCELLED = [{"status": "FAILED", "end_reason": "CANCELLED"}]
OUTCOMES = "SELECT outcome FROM attempts WHERE task_id = %s ORDER BY attempt"
UNRELEASED = "SELECT task_id FROM attempts WHERE gpu_id = %s AND released_at IS NULL"


async def ended(stack: Any, task_id: str) -> list[dict[str, Any]]:
    return await select(stack, "SELECT status, end_reason FROM tasks WHERE task_id = %s", task_id)


async def free(stack: Any, gpu_id: str) -> None:
    """Wait until nothing holds the node's slots."""

    async def is_free() -> bool:
        return not await select(stack, UNRELEASED, gpu_id)

    await eventually(is_free)


async def test_a_result_that_waits_behind_the_cancel_is_late(api, make_node, stack, temporal):
    put = await running(api, await make_node("cancel_first", [660]), 660)
    async with held(stack) as canceller:
        assert (await cancel_task.cancel(canceller.connection, CREATOR, put.task_id, None)).changed
        result = asyncio.create_task(api.succeed(put, {}, code=400))
        await canceller.until_waiting(SETTLES)
        await canceller.commit()
        await result
    assert await late(stack, put.task_id) == LATE_RESULT
    assert await ended(stack, put.task_id) == CANCELLED
    assert await statuses(api, put.task_id) == ["QUEUED", "PROCESSING", "FAILED"]
    assert await closed_as(temporal, put.task_id) is CANCELED  # the leader has notified it


async def test_a_cancel_that_waits_behind_the_result_is_refused(api, make_node, stack):
    put = await running(api, await make_node("result_first", [661]), 661)
    async with held(stack) as lock:
        await lock.lock_node("result_first")
        result = asyncio.create_task(api.succeed(put, {"n": 1}))
        await lock.until_waiting(SETTLES)
        cancelling = asyncio.create_task(cancel(api, put.task_id, code=400))
        await lock.until_waiting(SETTLES, SETTLES)
        await lock.commit()
        await asyncio.gather(result, cancelling)
    assert (await api.until(put.task_id, "COMPLETED"))["endReason"] == "COMPLETED"
    assert await statuses(api, put.task_id) == ["QUEUED", "PROCESSING", "COMPLETED"]


async def test_a_timeout_that_waits_behind_the_cancel_does_nothing(api, make_node, stack, database):
    put = await running(api, await make_node("cancel_in_time", [662]), 662)
    async with held(stack) as canceller:
        await cancel_task.cancel(canceller.connection, CREATOR, put.task_id, None)
        timeout = asyncio.create_task(database.run(lambda c: settle(c, put, Outcome.TIMED_OUT)))
        await canceller.until_waiting(SETTLES)
        await canceller.commit()
        assert await timeout is None
    assert await ended(stack, put.task_id) == CANCELLED
    assert await select(stack, OUTCOMES, put.task_id) == [{"outcome": "TASK_ENDED"}]


@pytest.mark.parametrize(("retries", "code", "status"), [(0, 400, "TIMEOUT"), (1, 200, "FAILED")])
async def test_a_cancel_that_waits_behind_the_timeout(api, make_node, stack, temporal, retries, code, status):
    """It is refused where that was the end, and otherwise ends the task, which waits again."""
    gpu_id = f"timeout_first_{retries}"
    node = await make_node(gpu_id, [663 + retries])
    put = await running(api, node, 663 + retries, maxRetries=retries)
    async with held(stack) as timeout:
        assert await settle(timeout.connection, put, Outcome.TIMED_OUT) is not None
        cancelling = asyncio.create_task(cancel(api, put.task_id, code=code))
        await timeout.until_waiting(SETTLES)
        await timeout.commit()
        await cancelling
    assert (await api.get(f"/tasks/{put.task_id}"))["status"] == status
    assert await select(stack, OUTCOMES, put.task_id) == [{"outcome": "TIMED_OUT"}]
    await notify(temporal, put.task_id) if retries == 0 else None
    await eventually(lambda: asyncio.sleep(0, put.run_id in node.canceled))
    await free(stack, gpu_id)


async def test_an_assignment_passes_over_a_task_that_is_being_cancelled(api, make_node, stack, temporal):
    node = await make_node("passed_over", [665])
    put = await running(api, node, 665)
    cancelled, other = await api.create(665), await api.create(665)
    async with held(stack) as canceller:
        await cancel_task.cancel(canceller.connection, CREATOR, cancelled, None)
        await api.succeed(put, {})
        assert (await node.next_put()).task_id == other
        await canceller.commit()
    assert await select(stack, OUTCOMES, cancelled) == []
    assert await closed_as(temporal, cancelled) is CANCELED


async def test_a_cancel_that_waits_behind_the_assignment_ends_the_new_attempt(api, make_node, stack, temporal):
    node = await make_node("assigned_first", [666])
    put = await running(api, node, 666)
    cancelled, other = await api.create(666), await api.create(666)
    async with held(stack) as release:
        assert await settle(release.connection, put, Outcome.SUCCEEDED, result="{}") is not None
        cancelling = asyncio.create_task(cancel(api, cancelled))
        await release.until_waiting(ENDS)
        await release.commit()
        await cancelling
    await notify(temporal, put.task_id)
    assert await ended(stack, cancelled) == CANCELLED
    assert await select(stack, OUTCOMES, cancelled) == [{"outcome": "TASK_ENDED"}]
    assert (await node.next_put()).task_id == other
    assert await closed_as(temporal, cancelled) is CANCELED


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_cancel_and_a_deregistration(api, make_node, stack, temporal, cancel_first):
    gpu_id, task_type = f"leaves_{cancel_first}".lower(), 667 + cancel_first
    put = await running(api, await make_node(gpu_id, [task_type]), task_type)
    async with held(stack) as lock:
        await lock.lock_node(gpu_id)
        calls = [lambda: cancel(api, put.task_id), lambda: api.ask("DELETE", f"/gpus/{gpu_id}")]
        waits = [SETTLES, CHANGES_NODE]
        under_way = []
        for n, one in enumerate((0, 1) if cancel_first else (1, 0)):
            under_way.append(asyncio.create_task(calls[one]()))
            await lock.until_waiting(*([waits[one]] if n == 0 else waits))
        await lock.commit()
        await asyncio.gather(*under_way)
    assert await ended(stack, put.task_id) == CANCELLED
    assert await closed_as(temporal, put.task_id) is CANCELED
    assert await select(stack, OUTCOMES, put.task_id) == [{"outcome": "TASK_ENDED"}]
    await free(stack, gpu_id)


async def test_two_cancels_at_once_are_both_answered_200_and_one_has_changed_something(api, make_node, stack, temporal):
    put = await running(api, await make_node("cancelled_twice", [669]), 669)
    async with held(stack) as lock:
        await lock.lock_node("cancelled_twice")
        both = [asyncio.create_task(cancel(api, put.task_id)) for _ in range(2)]
        await lock.until_waiting(SETTLES, SETTLES)
        await lock.commit()
        await asyncio.gather(*both)
    assert await statuses(api, put.task_id) == ["QUEUED", "PROCESSING", "FAILED"]
    entries = await api.get("/audit?action=task.cancel&size=100")
    assert [one["outcome"] for one in entries if one["subject"] == put.task_id] == ["UNCHANGED", "DONE"]
    assert await closed_as(temporal, put.task_id) is CANCELED


@pytest.mark.parametrize("start_first", [True, False])
async def test_a_cancel_and_the_start_of_the_workflow(api, stack, temporal, database, start_first):
    """Whichever comes first, a workflow that was started ends Canceled. Its start is confirmed last, as it is."""
    task_id = f"task_starts_{start_first}".lower()
    await database.run(lambda c: Life(c).create(task_id, 670))

    async def start() -> None:
        await temporal.start_workflow(
            TaskWorkflow.run,
            TaskInput(task_id, 670, "u", "a", 1, 1000, waits=True),
            id=task_workflow_id(task_id),
            task_queue="gpu-orchestrator",
            start_delay=UNTIL_ITS_GRANT,
        )

    if start_first:
        await start()
    assert (await database.run(lambda c: cancel_task.cancel(c, CREATOR, task_id, None))).changed
    if not start_first:
        await eventually(lambda: _notified(stack, task_id))  # no workflow was there to be notified
        await start()
    await database.run(lambda c: outbox.clear(c, [task_id]))
    assert await closed_as(temporal, task_id) is CANCELED


async def _notified(stack: Any, task_id: str) -> bool:
    return not await select(stack, "SELECT FROM outbox_ends WHERE task_id = %s", task_id)

"""The monitor finds and repairs drift between the database and Temporal."""

from __future__ import annotations

import asyncio
from functools import partial

import psycopg
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus

from infra.temporal import executions
from tests.conftest import eventually
from tests.e2e.conftest import side_by_side
from tests.e2e.inside import is_started, select

SLOW = 60.0  # s; the reconciler leaves alone what may still be on its way


@side_by_side
async def test_a_workflow_that_was_terminated_is_started_again_where_its_task_needs_it(api, make_node, temporal):
    """An operator ends workflows in the Web UI, at four moments of a task's life, side by side."""

    async def terminate(task_id):
        await temporal.get_workflow_handle(f"task-{task_id}").terminate("by a test")

    async def with_an_accepted_result():
        node = await make_node("repair_result", [401])
        task_id = await api.create(401)
        put = await node.next_put()
        await api.until(task_id, "PROCESSING")
        await terminate(task_id)
        await api.succeed(put, {"n": 1})
        assert (await api.until(task_id, "COMPLETED", within=SLOW))["retryCount"] == 0
        assert node.puts.empty()

    async def with_a_failure():
        node = await make_node("repair_failure", [402])
        task_id = await api.create(402, maxRetries=1)
        put = await node.next_put()
        await api.until(task_id, "PROCESSING")
        await terminate(task_id)
        await api.say(put, "FAILED", "boom")
        await api.succeed(await node.next_put(SLOW), {})
        assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 1

    async def past_its_deadline():
        node = await make_node("repair_deadline", [403])
        task_id = await api.create(403, timeout=500, maxRetries=0)
        await node.next_put()
        await terminate(task_id)
        await api.until(task_id, "TIMEOUT", within=SLOW)

    async def while_it_waits():
        """Nothing is to be done before its grant."""
        task_id = await api.create(404)
        await eventually(lambda: is_started(temporal, task_id))
        await terminate(task_id)
        node = await make_node("repair_waiting", [404])
        await api.succeed(await node.next_put(SLOW), {})
        assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0

    await asyncio.gather(with_an_accepted_result(), with_a_failure(), past_its_deadline(), while_it_waits())


async def _has_notes(api, task_id):
    """The entries of the reconciler that record no transition."""
    events = await api.get(f"/tasks/{task_id}/events")
    return [e["reason"] for e in events if (e["actor"], e["from"]) == ("reconciler", e["to"])]


@side_by_side
async def test_a_repair_without_effect_is_repeated_at_growing_intervals(api, temporal, stack):
    """Its workflow is terminated again and again, faster than the monitor can look: two entries in as many looks."""
    task_id = await api.create(406)
    handle = temporal.get_workflow_handle(f"task-{task_id}")
    await eventually(lambda: is_started(temporal, task_id))

    async def lose():
        """Let the process die, in effect, before it enqueued its task."""
        await handle.terminate("by a test")
        await update(stack, "UPDATE tasks SET waiting_since = NULL WHERE task_id = %s", task_id)
        await age(stack, task_id)

    await lose()
    assert len(await eventually(lambda: _has_notes(api, task_id), within=SLOW)) == 1
    await eventually(lambda: _waits(stack, task_id))
    await lose()
    for _ in range(2):
        before = await round_of(stack)

        async def looked_again(before=before):
            return await round_of(stack) != before

        await api.post("/monitoring/check")
        await eventually(looked_again, within=SLOW)
    assert len(await _has_notes(api, task_id)) == 1
    await update(stack, "UPDATE task_events SET at = at - interval '21 s' WHERE task_id = %s", task_id)

    async def again():
        return len(await _has_notes(api, task_id)) == 2

    await eventually(again, within=SLOW)
    await eventually(lambda: _waits(stack, task_id))


@side_by_side
async def test_a_lost_look_for_a_slot_is_done_by_the_monitor(api, make_node, temporal, stack):
    """The workflow believes that its task waits, and the row says that it does not."""
    task_id = await api.create(407)
    await eventually(lambda: is_started(temporal, task_id))
    await update(stack, "UPDATE tasks SET waiting_since = NULL WHERE task_id = %s", task_id)
    await age(stack, task_id)
    node = await make_node("repair_look", [407])
    await api.succeed(await node.next_put(SLOW), {})
    await api.until(task_id, "COMPLETED")
    assert await _has_notes(api, task_id) == ["任务既未等待也未执行，由监控重新排队"]


@side_by_side
async def test_a_completed_workflow_whose_row_is_behind(api, make_node, temporal, stack):
    """The last write is undone, as a restored copy would: the end is written again, or the work is done again."""
    node = await make_node("repair_behind", [408], maxConcurrentTasks=2)
    ids = [await api.create(408) for _ in range(2)]
    for _ in ids:
        await api.succeed(await node.next_put(), {"n": 1})
    for task_id in ids:
        await api.until(task_id, "COMPLETED")
        await eventually(partial(_returned, temporal, task_id))
        await undo_the_end(stack, task_id)
    uncollected, still_open = ids
    await update(stack, "DELETE FROM task_results WHERE task_id = %s", still_open)
    await update(
        stack,
        "UPDATE attempts SET closed_at = NULL, outcome = NULL WHERE task_id = %s",
        still_open,
    )
    await age(stack, still_open)
    put = await node.next_put(SLOW)
    assert put.run_id == f"{still_open}-1"
    await api.succeed(put, {"n": 1})
    for task_id in ids:
        await api.until(task_id, "COMPLETED", within=SLOW)
        await eventually(partial(_returned, temporal, task_id))
    events = await api.get(f"/tasks/{uncollected}/events")
    assert [(e["to"], e["actor"]) for e in events][-1] == ("COMPLETED", "reconciler")
    assert await _has_notes(api, still_open) == ["工作流已结束而任务尚未结束，由监控重新运行"]


@side_by_side
async def test_wrong_counts_are_corrected(api, stack):
    async def alerted():
        return any("tasks 4090 QUEUED: -5" in one["message"] for one in await api.alerts("统计计数"))

    async def right():
        return "4090" not in (await api.get("/monitoring/metrics"))["queue_lengths"]

    await update(stack, "INSERT INTO counter_deltas VALUES ('tasks', '4090 QUEUED', 5)")
    await api.post("/monitoring/check")
    await eventually(alerted, within=SLOW)  # a recount rests in proportion to how long the last one took
    await eventually(right)


async def update(stack, statement, *values):
    await select(stack, f"WITH done AS ({statement} RETURNING 1) SELECT * FROM done", *values)


async def age(stack, task_id):
    """Let a task look as if nothing had happened to it for a long time."""
    await update(
        stack,
        "UPDATE tasks SET updated_at = updated_at - interval '5 min', created_at = created_at - interval '6 min'"
        " WHERE task_id = %s",
        task_id,
    )


async def undo_the_end(stack, task_id):
    """Lose the transaction that ended the task."""
    await update(stack, "DELETE FROM task_events WHERE to_status = 'COMPLETED' AND task_id = %s", task_id)
    await update(stack, "UPDATE attempts SET collected_at = NULL WHERE task_id = %s", task_id)
    await update(
        stack,
        "UPDATE tasks SET status = 'PROCESSING', completed_at = NULL, event_seq = event_seq - 1 WHERE task_id = %s",
        task_id,
    )


async def round_of(stack):
    """When the monitor last went over the unfinished tasks."""
    return (await select(stack, "SELECT max(at) AS at FROM monitor_reports WHERE name = 'round'"))[0]["at"]


async def forget(temporal, task_id):
    """Let Temporal forget the task."""
    named = WorkflowExecution(workflow_id=f"task-{task_id}")
    await temporal.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(namespace=temporal.namespace, workflow_execution=named)
    )

    async def is_gone():
        return await executions.describe(temporal, task_id) is None

    await eventually(is_gone)


async def _returned(temporal, task_id):
    handle = temporal.get_workflow_handle(f"task-{task_id}")
    return (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED


async def _waits(stack, task_id):
    (row,) = await select(stack, "SELECT waiting_since IS NOT NULL AS waits FROM tasks WHERE task_id = %s", task_id)
    return row["waits"]


@side_by_side
async def test_what_stays_in_the_outbox_is_started(api, temporal, stack):
    """A process has died between the commit and the start."""
    task_id = await api.create(410)
    await eventually(lambda: _is_cleared(stack, task_id))
    await forget(temporal, task_id)
    await update(stack, "INSERT INTO outbox VALUES (%s, clock_timestamp() - interval '1 min')", task_id)
    await eventually(lambda: is_started(temporal, task_id), within=SLOW)
    await eventually(lambda: _is_cleared(stack, task_id))


async def _is_cleared(stack, task_id):
    """Whether its start is confirmed."""
    return not await select(stack, "SELECT FROM outbox WHERE task_id = %s", task_id)


@side_by_side
async def test_a_repeated_request_starts_what_was_never_started(api, temporal, stack):
    """A process has died between the commit and the start: its client need not wait for the monitor."""
    body = {"taskType": 409, "userId": "u", "app": "a", "payload": "{}"}
    once = {"Idempotency-Key": "started by its repeat"}
    task_id = (await api.post("/tasks", body, headers=once))["taskId"]
    handle = temporal.get_workflow_handle(f"task-{task_id}")
    await eventually(lambda: _is_cleared(stack, task_id))
    await forget(temporal, task_id)
    url = stack.services.database_url.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("INSERT INTO outbox VALUES (%s)", (task_id,))
    assert (await api.post("/tasks", body, headers=once))["taskId"] == task_id
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING

"""A task's workflow ends as its task did, so that the Web UI's colours and its list of failures are true."""

from __future__ import annotations

from typing import Any

from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDReusePolicy

from infra.temporal.gateway import TemporalGateway
from infra.temporal.open_workflows import OpenWorkflows, RunStatus
from tests.conftest import eventually
from tests.e2e.test_reconcile import SLOW, age, update
from workflows.messages import Grant, TaskInput
from workflows.notifications import Granted
from workflows.task import TaskWorkflow

COMPLETED, FAILED = WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.FAILED
WORDS = "CUDA error of the user's secret input"


async def closed_as(temporal, task_id):
    """The status with which a task's workflow has closed."""
    handle = temporal.get_workflow_handle(f"task-{task_id}")

    async def status():
        found = (await handle.describe()).status
        return found if found is not WorkflowExecutionStatus.RUNNING else None

    return await eventually(status, within=SLOW)


async def closed(temporal, task_id):
    """How a task's workflow has closed: status, error type, message."""
    found = await closed_as(temporal, task_id)
    try:
        await temporal.get_workflow_handle(f"task-{task_id}").result()
    except WorkflowFailureError as failure:
        cause: Any = failure.cause
        return found, cause.type, cause.message
    return found, None, None


async def runs_of(temporal, task_id):
    return (await temporal.count_workflows(f"WorkflowId = 'task-{task_id}'")).count


async def failed(api, node, task_type, **more):
    """A task whose node says that it failed."""
    task_id = await api.create(task_type, maxRetries=0, **more)
    await api.say(await node.next_put(), "FAILED", WORDS)
    await api.until(task_id, "FAILED")
    return task_id


async def test_a_workflow_ends_as_its_task(api, make_node, temporal):
    node = await make_node("ends", [441])
    done = await api.create(441)
    await api.succeed(await node.next_put(), {})
    assert await closed(temporal, done) == (COMPLETED, None, None)
    task_id = await failed(api, node, 441)
    assert await closed(temporal, task_id) == (FAILED, "TaskFailed", "attempt 1 on ends: FAILED")
    late = await api.create(441, timeout=500, maxRetries=0)
    await node.next_put()
    await api.until(late, "TIMEOUT")
    assert await closed(temporal, late) == (FAILED, "TaskTimedOut", "attempt 1 on ends: TIMED_OUT")
    shown = {
        one.id: one.search_attributes["TaskStatus"]
        async for one in temporal.list_workflows("TaskType = 441 AND ExecutionStatus = 'Failed'")
    }
    assert shown == {f"task-{task_id}": ["FAILED"], f"task-{late}": ["TIMEOUT"]}


async def test_what_ended_failed_is_not_run_again(api, make_node, temporal, stack):
    """A grant that comes late, a start that is repeated: of the task's one run nothing changes."""
    node = await make_node("ends_once", [442])
    task_id = await failed(api, node, 442)
    await closed(temporal, task_id)
    gateway, task = TemporalGateway(temporal, stack.settings), TaskInput(task_id, 442, "u", "a", 1, 1000)
    await gateway.start_task(task)
    await gateway.grant(Granted(task, Grant(1, "ends_once")))
    assert await OpenWorkflows(gateway, stack.settings).run_status(task_id) is RunStatus.FAILED
    assert await runs_of(temporal, task_id) == 1


async def test_a_run_that_finds_its_task_ended_ends_at_once_as_the_task_did(api, make_node, temporal, stack):
    node = await make_node("ends_twice", [443])
    in_vain = await failed(api, node, 443)
    done = await api.create(443)
    await api.succeed(await node.next_put(), {})
    await api.until(done, "COMPLETED")
    ended = {in_vain: (FAILED, "TaskFailed", "found FAILED"), done: (COMPLETED, None, None)}
    for task_id, how in ended.items():
        await closed(temporal, task_id)
        await temporal.start_workflow(
            TaskWorkflow.run,
            TaskInput(task_id, 443, "u", "a", 1, 1000),
            id=f"task-{task_id}",
            task_queue=stack.settings.task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        assert await closed(temporal, task_id) == how


async def test_a_workflow_that_has_not_heard_of_the_end_is_notified(api, make_node, temporal, stack):
    """A waiting one, and one whose attempt runs: their rows are ended behind their backs."""
    node = await make_node("ends_unheard", [444])
    running, waiting = await api.create(444), await api.create(445)
    await node.next_put()
    await api.until(running, "PROCESSING")
    for task_id in (running, waiting):
        await update(
            stack,
            "UPDATE tasks SET status = 'FAILED', waiting_since = NULL, started_at = created_at,"
            " completed_at = clock_timestamp() WHERE task_id = %s",
            task_id,
        )
        await update(
            stack, "UPDATE attempts SET closed_at = clock_timestamp(), outcome = 'LOST' WHERE task_id = %s", task_id
        )
        await age(stack, task_id)
        await update(
            stack, "UPDATE tasks SET completed_at = completed_at - interval '1 min' WHERE task_id = %s", task_id
        )
    for task_id in (running, waiting):
        assert await closed(temporal, task_id) == (FAILED, "TaskFailed", "found FAILED")

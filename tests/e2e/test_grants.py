"""A grant begins the task's workflow, and reaches one that has begun."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from infra.settings import Settings
from infra.temporal.gateway import TemporalGateway
from workflows.messages import Grant, TaskInput
from workflows.notifications import Granted

GRANT = Grant(1, "n")


@workflow.defn(name="TaskWorkflow")
class Waiting:
    """Ends with its grant."""

    def __init__(self) -> None:
        self._granted: Grant | None = None

    @workflow.run
    async def run(self, task: TaskInput) -> Grant | None:
        await workflow.wait_condition(lambda: self._granted is not None)
        return self._granted

    @workflow.signal
    def granted(self, grant: Grant) -> None:
        self._granted = grant


@pytest.mark.parametrize("begins", ["now", "in an hour", "never"])
async def test_it_is_heard_wherever_the_workflow_is(temporal: Client, begins: str) -> None:
    name = uuid4().hex
    task = TaskInput(name, 1, "u", "a", 1, 1000, waits=True)
    gateway = TemporalGateway(temporal, Settings(task_queue=name))
    runner = UnsandboxedWorkflowRunner()
    async with Worker(temporal, task_queue=name, workflows=[Waiting], workflow_runner=runner):
        if begins != "never":
            delay = timedelta(hours=1) if begins == "in an hour" else None
            await temporal.start_workflow(Waiting.run, task, id=f"task-{name}", task_queue=name, start_delay=delay)
        for _ in range(2):  # one that is repeated begins nothing more
            await gateway.grant(Granted(task, GRANT))
        handle = temporal.get_workflow_handle(f"task-{name}", result_type=Grant)
        assert await handle.result() == GRANT
        await gateway.grant(Granted(task, GRANT))
    runs = [run async for run in temporal.list_workflows(f"WorkflowId='task-{name}'")]
    assert len(runs) <= 1

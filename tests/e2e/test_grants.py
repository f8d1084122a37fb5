"""A grant is sent as an update; a workflow that refuses it gets a signal (ADR 0017)."""

from __future__ import annotations

from uuid import uuid4

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from infra.db.notifications import Granted
from infra.settings import Settings
from infra.temporal import Engine
from workflows.messages import Grant

GRANT = Grant(1, "n")


@workflow.defn
class BeforeUpdates:
    """As a worker of an earlier version has it."""

    def __init__(self) -> None:
        self._granted: Grant | None = None

    @workflow.run
    async def run(self) -> Grant | None:
        await workflow.wait_condition(lambda: self._granted is not None)
        return self._granted

    @workflow.signal
    def granted(self, grant: Grant) -> None:
        self._granted = grant


async def test_a_worker_that_knows_no_update_is_signalled(temporal: Client) -> None:
    task_id = uuid4().hex
    engine = Engine(temporal, Settings())
    runner = UnsandboxedWorkflowRunner()
    async with Worker(temporal, task_queue=task_id, workflows=[BeforeUpdates], workflow_runner=runner):
        waiting = await temporal.start_workflow(BeforeUpdates.run, id=f"task-{task_id}", task_queue=task_id)
        await engine.tell(Granted(task_id, GRANT))
        assert await waiting.result() == GRANT

"""The recorder of histories, on a stack of its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.client import Client

from tests.conftest import Api, MakeNode, eventually, fleet, frontend
from tests.fake_node import FakeNode
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

ROOT = Path(__file__).parents[3]
"""Its path stays out of stack traces in histories."""
HISTORIES = Path(__file__).parents[1] / "histories"


class Recorder:
    """Keeps the histories of a stack's workflows."""

    def __init__(self, api: Api, make_node: MakeNode, client: Client) -> None:
        self.api = api
        self.make_node = make_node
        self.client = client

    async def keep(self, name: str, workflow_id: str, run_id: str | None = None) -> None:
        history = await self.client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        (HISTORIES / f"{name}.json").write_text(history.to_json().replace(f"{ROOT}/", "") + "\n")

    async def keep_ended(self, name: str, task_id: str, status: str = "COMPLETED") -> None:
        """Keep a task's workflow once the task has this status and the workflow has closed."""
        await self.api.until(task_id, status)
        workflow = self.client.get_workflow_handle(f"task-{task_id}")

        async def closed() -> bool:
            return (await workflow.describe()).close_time is not None

        await eventually(closed)
        await self.keep(name, workflow.id)

    async def node(self, gpu_id: str, task_type: int) -> FakeNode:
        return await self.make_node(gpu_id, [task_type])

    async def runs(self, workflow_id: str) -> list[str]:
        """The run ids of a workflow, the first one first."""
        found = [run async for run in self.client.list_workflows(f"WorkflowId='{workflow_id}'")]
        return [run.run_id for run in sorted(found, key=lambda run: run.start_time)]

    async def keep_runs(self, name: str, workflow_id: str, runs: list[str]) -> None:
        """The run that continued as new, and the one after it."""
        await self.keep(f"{name}_continued", workflow_id, runs[-2])
        await self.keep(f"{name}_after_continue", workflow_id, runs[-1])


@asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    """Records on a stack of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(stack_settings(Path(folder)), nodes=0) as stack, frontend(stack) as api, fleet(api) as make:
            yield Recorder(api, make, await Client.connect(stack.services.temporal_address))

"""Takes the histories that `test_replay` replays from the real engine: `python -m tests.workflows.record`.

Run it only when a workflow's commands change on purpose; open runs of the old commands must still replay.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import httpx
from temporalio.client import Client

from infra.settings import Settings
from tests.conftest import Api
from tests.fake_node import FakeNode
from workers.stack.ports import free_port
from workers.stack.stack import Stack

HISTORIES = Path(__file__).parent / "histories"


class Recorder:
    """Leads tasks and nodes to every outcome and keeps their histories."""

    def __init__(self, api: Api, client: Client) -> None:
        self.api = api
        self.client = client

    async def keep(self, name: str, workflow_id: str) -> None:
        history = await self.client.get_workflow_handle(workflow_id).fetch_history()
        (HISTORIES / f"{name}.json").write_text(history.to_json() + "\n")

    async def node(self, gpu_id: str, task_type: int) -> FakeNode:
        node = FakeNode(gpu_id)
        await node.start()
        await self.api.register(node, [task_type])
        node.beat_with(lambda: self.api.http.post(f"/gpus/{gpu_id}/heartbeat"))
        return node

    async def tasks(self) -> None:
        api = self.api
        one = await self.node("one", 1)
        task = await api.create(1)
        await api.say(await one.next_put(), "FAILED", "boom")
        running = await one.next_put()
        await self.keep("task_running", f"task-{task}")
        waiting = await api.create(1)
        await asyncio.sleep(1)
        await self.keep("task_waiting", f"task-{waiting}")
        await api.succeed(running, {"n": 1})
        await api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_retried", f"task-{task}")
        await api.succeed(await one.next_put(), {"n": 2})
        await api.until(waiting, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_completed", f"task-{waiting}")
        await self.keep("node_active", "gpu-one")
        slow = await self.node("slow", 901)
        late = await api.create(901)
        await slow.next_put()
        await api.until(late, "TIMEOUT")
        await asyncio.sleep(1)
        await self.keep("task_timed_out", f"task-{late}")

    async def misled(self) -> None:
        """A task is told that its attempt is closed, which is not so."""
        node = await self.node("misled", 3)
        task = await self.api.create(3)
        await node.next_put()
        await self.api.until(task, "PROCESSING")
        await self.client.get_workflow_handle(f"task-{task}").signal("settled", 1)
        await self.api.succeed(await node.next_put(), {})
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_misled", f"task-{task}")

    async def nodes(self) -> None:
        api = self.api
        silent = await self.node("silent", 2)
        task = await api.create(2)
        await silent.next_put()
        other = await self.node("other", 2)
        silent.fall_silent()
        await api.succeed(await other.next_put(), {})
        await api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_lost_node", f"task-{task}")
        await self.keep("node_offline", "gpu-silent")
        await api.post("/gpus/other/fault?reason=fan")
        await asyncio.sleep(1)
        await self.keep("node_faulty", "gpu-other")
        await api.ask("DELETE", "/gpus/other")
        await asyncio.sleep(1)
        await self.keep("node_gone", "gpu-other")
        async for run in self.client.list_workflows("WorkflowType='MonitorWorkflow' AND ExecutionStatus='Completed'"):
            await self.keep("monitor", run.id)
            break


async def main() -> None:
    HISTORIES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder),
            port=free_port(),
            temporal_port=free_port(),
            temporal_ui_port=free_port(),
            heartbeat_timeout=3,
            monitor_interval=2,
            task_types={901: {"timeout": 1000, "maxRetries": 0}},
        )
        async with Stack(settings, nodes=0) as stack:
            key = stack.api_key.secret.get_secret_value()
            async with httpx.AsyncClient(
                base_url=f"{stack.api_url}/api/v2", headers={"X-API-Key": key}, trust_env=False
            ) as http:
                client = await Client.connect(stack.services.temporal_address)
                recorder = Recorder(Api(http, stack, key), client)
                await recorder.tasks()
                await recorder.misled()
                await recorder.nodes()


if __name__ == "__main__":
    asyncio.run(main())

"""Takes the histories that `test_replay` replays from the real Temporal: `python -m tests.workflows.record`.

With a word it takes only some: `continued` those around a continue-as-new, `claimed` the one of a task that gets its
slot with its creation, `short` those of short work, `waiting` those of tasks that wait in a workflow that has begun,
`commanded` the one of a node that a person signals, `drained` the one of a node that drains, `handed_back` the one of a
task that is taken from it, `stopped_beside` the one of a task whose old node stops slowly, `granted_falsely` the one of
a false grant, `endings` those of workflows that fail as their tasks, `cancelled` those of requests to cancel,
`retention` the one of a run of the retention, `operation` those of bulk operations. Run it only when a workflow's
commands change on purpose; open runs of the old commands must still replay.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from infra.db.session import Database
from infra.db.transactions import cancel_task
from infra.settings import Settings
from tests.conftest import Api, MakeNode, fleet, frontend, stack_settings
from tests.db.rows import CREATOR
from tests.fake_node import FakeNode
from tests.receiver import Receiver
from workers.stack.stack import Stack
from workers.stack.temporal import DYNAMIC_CONFIG
from workflows.messages import TaskInput
from workflows.task import TaskWorkflow

ROOT = Path(__file__).parents[2]
"""Its path stays out of stack traces in histories."""
HISTORIES = Path(__file__).parent / "histories"
SUGGEST_AFTER = 60  # events


class Recorder:
    """Leads tasks and nodes to every outcome and keeps their histories."""

    def __init__(self, api: Api, make_node: MakeNode, client: Client) -> None:
        self.api = api
        self.make_node = make_node
        self.client = client

    async def keep(self, name: str, workflow_id: str, run_id: str | None = None) -> None:
        history = await self.client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        (HISTORIES / f"{name}.json").write_text(history.to_json().replace(f"{ROOT}/", "") + "\n")

    async def node(self, gpu_id: str, task_type: int) -> FakeNode:
        return await self.make_node(gpu_id, [task_type])

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
        """A task is notified that its attempt is closed, which is not so."""
        node = await self.node("misled", 3)
        task = await self.api.create(3)
        await node.next_put()
        await self.api.until(task, "PROCESSING")
        await self.client.get_workflow_handle(f"task-{task}").signal("settled", 1)
        await self.api.succeed(await node.next_put(), {})
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_misled", f"task-{task}")

    async def granted_falsely(self) -> None:
        """A waiting task is granted an attempt that there is not."""
        task = await self.api.create(8)
        await self.client.get_workflow_handle(f"task-{task}").signal("granted", {"attempt": 99, "gpu_id": "nobody"})
        await asyncio.sleep(1)
        node = await self.node("true", 8)
        await self.api.succeed(await node.next_put(), {})
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_granted_falsely", f"task-{task}")

    async def claimed(self) -> None:
        """A task gets its slot with its creation, and fails there."""
        node = await self.node("ready", 5)
        task = await self.api.create(5)
        await self.api.say(await node.next_put(), "FAILED", "boom")
        await self.api.succeed(await node.next_put(), {})
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_claimed_at_creation", f"task-{task}")

    async def short(self) -> None:
        """Work that is answered in its dispatch, or waited for there in vain."""
        node = await self.node("quick", 6)
        first = await self.api.create(6)  # it shows how long such work takes
        await self.api.succeed(await node.next_put(), {})
        await self.api.until(first, "COMPLETED")
        accepted, node.answer = node.answer, (200, {"status": "succeeded", "output": {}})
        task = await self.api.create(6)
        await node.next_put()
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_watched", f"task-{task}")
        node.answer, node.delay = accepted, 1.0
        slow = await self.api.create(6)
        put = await node.next_put()
        await asyncio.sleep(2)
        await self.api.succeed(put, {})
        await self.api.until(slow, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_watched_in_vain", f"task-{slow}")

    async def waiting(self) -> None:
        """A retry that finds no slot, and a run that a person's signal begins before its grant."""
        node = await self.node("full", 9)
        retried = await self.api.create(9)
        first = await node.next_put()
        other, begun = [await self.api.create(9) for _ in range(2)]
        await self.api.say(first, "FAILED", "boom")
        running = await node.next_put()
        await self.client.start_workflow(
            TaskWorkflow.run,
            TaskInput(begun, 9, "u", "a", 1, 1000, waits=True),
            id=f"task-{begun}",
            task_queue=Settings().task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="look",
        )
        await asyncio.sleep(3)  # the backoff is over, and both wait
        await self.keep("task_retry_waiting", f"task-{retried}")
        await self.api.succeed(running, {})
        for _ in (begun, retried):
            await self.api.succeed(await node.next_put(), {})
        for name, task in (("task_retry_waited", retried), ("task_begun_by_a_signal", begun)):
            await self.api.until(task, "COMPLETED")
            await asyncio.sleep(1)
            await self.keep(name, f"task-{task}")
        await self.api.until(other, "COMPLETED")

    async def endings(self) -> None:
        """Workflows that fail as their tasks did, and runs that find their task ended."""
        node = await self.node("ends", 902)
        failed = await self.api.create(902)
        for _ in range(2):
            await self.api.say(await node.next_put(), "FAILED", "boom")
        await self.api.until(failed, "FAILED")
        done = await self.api.create(902)
        await self.api.succeed(await node.next_put(), {})
        await self.api.until(done, "COMPLETED")
        late = await self.api.create(902, timeout=500, maxRetries=0)
        await node.next_put()
        await self.api.until(late, "TIMEOUT")
        await asyncio.sleep(1)
        for name, task in (("failed", failed), ("timed_out", late)):
            await self.keep(f"task_ended_{name}", f"task-{task}")
        for name, task in (("failed", failed), ("completed", done)):
            with suppress(WorkflowFailureError):
                await self.client.execute_workflow(
                    TaskWorkflow.run,
                    TaskInput(task, 902, "u", "a", 1, 1000),
                    id=f"task-{task}",
                    task_queue=Settings().task_queue,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                )
            await self.keep(f"task_found_{name}", f"task-{task}")

    async def cancelled(self) -> None:
        """Requests to cancel, wherever they meet the task.

        The version of 2026-11-29 let them end the run and not the task: its history is `task_cancel_ended_the_run`.
        """
        node = await self.node("cancels", 12)
        by_rest = await self._on(node, 12)
        await self.api.post(f"/tasks/{by_rest}/cancel", {})
        by_person = await self._on(node, 12)
        await self._handle(by_person).cancel()
        unbegun, begun = await self.api.create(13), await self._on(node, 12, "FAILED")
        for one in (begun, unbegun):
            await self.api.post(f"/tasks/{one}/cancel", {})
        unasked = await self._on(node, 12)
        database = Database(self.api.stack.services.database_url, connections=1)
        await database.run(lambda c: cancel_task.cancel(c, CREATOR, unasked, None))
        await self._handle(unasked).signal("settled", 1)  # the leader's request comes two seconds later
        await database.close()
        for name, one in {
            "running": by_rest, "by_a_person": by_person, "in_its_backoff": begun, "before_its_first_step": unbegun,
            "unasked": unasked,
        }.items():  # fmt: skip
            await self._closed(one)
            await self.keep(f"task_cancelled_{name}", f"task-{one}")
        completed = await self._on(node, 12, "COMPLETED")
        for name, one in (("completed", completed), ("cancelled", by_rest)):
            await self._another_run(one, timedelta(days=1) if one == completed else timedelta())
            await self._handle(one).cancel()
            await self._closed(one)
            await self.keep(f"task_cancel_found_{name}", f"task-{one}")

    async def operation(self) -> None:
        """A bulk retry of several pages, and a continue-as-new between two of them."""
        for number in range(60):
            await self.api.create(14, app="bulk", userId=f"user_{number % 2}")
        cancel = await self.api.post("/tasks/cancel", {"filter": {"app": "bulk"}})
        await self._done("operation_cancel", cancel["operationId"])
        retry = await self.api.post("/tasks/retry", {"filter": {"app": "bulk"}})
        await self._done("operation_retry", retry["operationId"])

    async def operation_continued(self) -> None:
        """On a server that soon suggests it: a bulk retry that continues as new."""
        for _ in range(700):
            await self.api.create(14, app="bulk")
        cancel = await self.api.post("/tasks/cancel", {"filter": {"app": "bulk"}})
        await self._done(None, cancel["operationId"])
        workflow_id = f"operation-{(await self.api.post('/tasks/retry', {'filter': {'app': 'bulk'}}))['operationId']}"
        await self._done(None, workflow_id.removeprefix("operation-"))
        await self.keep_runs("operation", workflow_id, await self.runs(workflow_id))

    async def _done(self, name: str | None, operation_id: str) -> None:
        """Waits until a bulk operation is done."""
        await self.client.get_workflow_handle(f"operation-{operation_id}").result()
        if name is not None:
            await self.keep(name, f"operation-{operation_id}")
        await asyncio.sleep(1)  # the list of runs lags behind

    def _handle(self, task_id: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(f"task-{task_id}")

    async def _on(self, node: FakeNode, task_type: int, said: str = "PROCESSING") -> str:
        """A task of which the node has said something, and which has come so far."""
        task = await self.api.create(task_type)
        put = await node.next_put()
        if said == "FAILED":
            await self.api.say(put, said, "boom")
        elif said == "COMPLETED":
            await self.api.succeed(put, {})
        await self.api.until(task, "QUEUED" if said == "FAILED" else said)
        await asyncio.sleep(0.5 if said != "FAILED" else 0.2)
        return task

    async def _another_run(self, task_id: str, delay: timedelta) -> None:
        await self.client.start_workflow(
            TaskWorkflow.run,
            TaskInput(task_id, 12, "u", "a", 1, 1000, waits=bool(delay)),
            id=f"task-{task_id}",
            task_queue=Settings().task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_delay=delay or None,
        )
        await asyncio.sleep(0.5)

    async def _closed(self, task_id: str) -> None:
        with suppress(WorkflowFailureError):
            await self._handle(task_id).result()

    async def granted_first(self) -> None:
        """A task is granted a slot before its workflow's first step."""
        node = await self.node("brisk", 4)
        first = await self.api.create(4)  # shows how long such work takes
        await self.api.succeed(await node.next_put(), {})
        await self.api.until(first, "COMPLETED")
        await self.api.create(4)
        before = await node.next_put()
        await asyncio.sleep(1)  # longer than what is known of the free slots counts
        task = await self.api.create(4)
        for put in (before, None):
            await self.api.succeed(put or await node.next_put(), {})
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_granted_first", f"task-{task}")

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

    async def commanded(self) -> None:
        """A person signals a node's workflow: fault and recover, and what no workflow knows.

        The version of 2026-11-29 ignored such signals: its history is `node_ignored_commands`. A signal without input
        stopped the workflow there, as in `node_stuck_command`.
        """
        node = await self.node("commanded", 7)
        handle = self.client.get_workflow_handle("gpu-commanded")
        await handle.signal("fault", {"reason": "ECC"})
        await asyncio.sleep(1)
        await handle.signal("explode")
        await handle.signal("recover", {"reason": "replaced"})
        await asyncio.sleep(1)
        for call in ("fault?reason=fan", "recover"):
            await self.api.post(f"/gpus/{node.gpu_id}/{call}")
            await asyncio.sleep(1)
        await self.keep("node_commanded", "gpu-commanded")

    async def drained(self) -> None:
        """A node is drained and undrained, by REST and by a person's signals.

        The version of 2026-11-29 ignored such signals: its history is `node_ignored_drains`.
        """
        await self.node("drained", 10)
        handle = self.client.get_workflow_handle("gpu-drained")
        await self.api.post("/gpus/drained/drain", {"reason": "fan"})
        await asyncio.sleep(1)
        for name in ("undrain", "drain", "fault", "recover"):
            await handle.signal(name, {"reason": "disk"})
            await asyncio.sleep(1)
        await self.api.post("/gpus/drained/undrain")
        await asyncio.sleep(1)
        await self.keep("node_drained", "gpu-drained")

    async def handed_back(self) -> None:
        """A task is taken from a draining node at the deadline."""
        node = await self.node("due", 11)
        task = await self.api.create(11)
        await node.next_put()
        await self.api.until(task, "PROCESSING")
        other = await self.node("fallback", 11)
        await self.api.post("/gpus/due/drain", {"reason": "fan", "deadline": int(time.time() * 1000) + 1000})
        await self.api.succeed(await other.next_put(), {})
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_handed_back", f"task-{task}")

    async def stopped_beside(self) -> None:
        """A task goes on elsewhere while its old node stops slowly."""
        node = await self.node("hangs", 12)
        node.cancel_hold = asyncio.Event()
        task = await self.api.create(12)
        await node.next_put()
        await self.api.until(task, "PROCESSING")
        other = await self.node("goes_on", 12)
        await self.api.post("/gpus/hangs/fault?reason=fan")
        put = await other.next_put()
        node.cancel_hold.set()
        await asyncio.sleep(1)
        await self.api.succeed(put, {})
        await self.api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep("task_stopped_beside", f"task-{task}")

    async def retention(self) -> None:
        """A run that forgets nothing."""
        await self.client.get_schedule_handle("retention").trigger()
        await asyncio.sleep(2)
        async for run in self.client.list_workflows("WorkflowType='RetentionWorkflow' AND ExecutionStatus='Completed'"):
            await self.keep("retention", run.id)

    async def webhooks(self) -> None:
        """A webhook that is paused, resumed and deleted, and one that a person cancels."""
        async with Receiver() as receiver:
            receiver.answers.append(500)
            body = {"url": receiver.url(), "events": ["task.ended"]}
            webhook_id, other = [(await self.api.post("/webhooks", body))["webhookId"] for _ in range(2)]
            await self.api.post(f"/webhooks/{webhook_id}/test")
            await asyncio.sleep(6)  # sent again, and the turn has ended
            await self.keep("webhook_idle", f"webhook-{webhook_id}")
            handle = self.client.get_workflow_handle(f"webhook-{webhook_id}")
            for name in ("pause", "resume"):
                await handle.signal(name)
                await self.api.post(f"/webhooks/{webhook_id}/test")
                await asyncio.sleep(4)
                await self.keep(f"webhook_{name}d", f"webhook-{webhook_id}")
            await self.api.ask("DELETE", f"/webhooks/{webhook_id}")
            await handle.result()
            await self.keep("webhook_deleted", f"webhook-{webhook_id}")
            receiver.usual = 500
            await self.api.post(f"/webhooks/{other}/test")
            await asyncio.sleep(2)
            handle = self.client.get_workflow_handle(f"webhook-{other}")
            await handle.cancel()
            with suppress(WorkflowFailureError):
                await handle.result()
            await self.keep("webhook_cancelled", f"webhook-{other}")

    async def webhook_continued(self) -> None:
        """On a server that soon suggests it: a paused webhook that continues as new."""
        async with Receiver() as receiver:
            made = await self.api.post("/webhooks", {"url": receiver.url(), "events": ["task.ended"]})
            workflow_id = f"webhook-{made['webhookId']}"
            await self.api.post(f"/webhooks/{made['webhookId']}/test")
            await asyncio.sleep(2)
            handle = self.client.get_workflow_handle(workflow_id)
            while len(runs := await self.runs(workflow_id)) < 2:
                await handle.signal("pause")
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            await self.keep_runs("webhook", workflow_id, runs)

    async def continued(self) -> None:
        """On a server that soon suggests it: a task and a node that continue as new in the middle of their lives."""
        api = self.api
        node = await self.node("long", 1)
        task = await api.create(1)
        while len(runs := await self.runs(f"task-{task}")) < 2:
            await api.say(await node.next_put(), "QUEUED", "draining")
        await api.succeed(await node.next_put(), {"n": 1})
        await api.until(task, "COMPLETED")
        await asyncio.sleep(1)
        await self.keep_runs("task", f"task-{task}", runs)
        while len(runs := await self.runs("gpu-long")) < 2:
            await api.post("/gpus/long/fault?reason=fan")
            await api.post("/gpus/long/recover")
        await api.ask("DELETE", "/gpus/long")
        await asyncio.sleep(1)
        await self.keep_runs("node", "gpu-long", runs)

    async def runs(self, workflow_id: str) -> list[str]:
        """The run ids of a workflow, the first one first."""
        found = [run async for run in self.client.list_workflows(f"WorkflowId='{workflow_id}'")]
        return [run.run_id for run in sorted(found, key=lambda run: run.start_time)]

    async def keep_runs(self, name: str, workflow_id: str, runs: list[str]) -> None:
        """The run that continued as new, and the one after it."""
        await self.keep(f"{name}_continued", workflow_id, runs[-2])
        await self.keep(f"{name}_after_continue", workflow_id, runs[-1])


@asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    """Records on a stack of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(stack_settings(Path(folder)), nodes=0) as stack, frontend(stack) as api, fleet(api) as make:
            yield Recorder(api, make, await Client.connect(stack.services.temporal_address))


async def main() -> None:
    HISTORIES.mkdir(exist_ok=True)
    async with recorder() as usual:
        await usual.tasks()
        await usual.misled()
        await usual.granted_falsely()
        await usual.claimed()
        await usual.granted_first()
        await usual.short()
        await usual.waiting()
        await usual.endings()
        await usual.cancelled()
        await usual.nodes()
        await usual.commanded()
        await usual.drained()
        await usual.handed_back()
        await usual.stopped_beside()
        await usual.retention()
    await webhooks()
    await continued()


async def commanded() -> None:
    """The history of a node that a person commands by signals."""
    async with recorder() as usual:
        await usual.commanded()


async def drained() -> None:
    """The history of a node that is drained."""
    async with recorder() as usual:
        await usual.drained()


async def handed_back() -> None:
    """The history of a task that is taken from a draining node."""
    async with recorder() as usual:
        await usual.handed_back()


async def stopped_beside() -> None:
    """The history of a task that goes on while its old node stops."""
    async with recorder() as usual:
        await usual.stopped_beside()


async def retention() -> None:
    """The history of a run of the retention."""
    async with recorder() as usual:
        await usual.retention()


async def granted_falsely() -> None:
    """The history of a task that is granted an attempt that there is not."""
    async with recorder() as usual:
        await usual.granted_falsely()


async def claimed() -> None:
    """The history of a task that gets its slot with its creation."""
    async with recorder() as usual:
        await usual.claimed()


async def short() -> None:
    """The histories of short work."""
    async with recorder() as usual:
        await usual.short()


async def waiting() -> None:
    """The histories of tasks that wait in a workflow that has begun."""
    async with recorder() as usual:
        await usual.waiting()


async def endings() -> None:
    """The histories of workflows that fail as their tasks, and of runs that find their task ended."""
    async with recorder() as usual:
        await usual.endings()


async def cancelled() -> None:
    """The histories of requests to cancel."""
    async with recorder() as usual:
        await usual.cancelled()


async def operation() -> None:
    """The histories of bulk operations."""
    async with recorder() as usual:
        await usual.operation()
    DYNAMIC_CONFIG["limit.historyCount.suggestContinueAsNew"] = str(SUGGEST_AFTER)
    async with recorder() as hasty:
        await hasty.operation_continued()


async def webhooks() -> None:
    """The histories of webhooks."""
    async with recorder() as usual:
        await usual.webhooks()
    DYNAMIC_CONFIG["limit.historyCount.suggestContinueAsNew"] = str(SUGGEST_AFTER)
    async with recorder() as hasty:
        await hasty.webhook_continued()


async def continued() -> None:
    """The histories around a continue-as-new, without ones of a thousand events: the server suggests it sooner."""
    DYNAMIC_CONFIG["limit.historyCount.suggestContinueAsNew"] = str(SUGGEST_AFTER)
    async with recorder() as hasty:
        await hasty.continued()


if __name__ == "__main__":
    alone = (
        webhooks,
        continued,
        granted_falsely,
        claimed,
        short,
        waiting,
        commanded,
        drained,
        handed_back,
        stopped_beside,
        endings,
        cancelled,
        retention,
        operation,
    )
    wanted = {one.__name__: one for one in alone}
    asyncio.run(wanted[sys.argv[1]]() if sys.argv[1:] else main())

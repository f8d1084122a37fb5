"""Nodes that fall silent, fail, drain, and are commanded by a person."""

from __future__ import annotations

import asyncio

from tests.workflows.record.recorder import Recorder


async def nodes(recorder: Recorder) -> None:
    api = recorder.api
    silent = await recorder.node("silent", 2)
    task = await api.create(2)
    await silent.next_put()
    other = await recorder.node("other", 2)
    silent.fall_silent()
    await api.succeed(await other.next_put(), {})
    await recorder.keep_ended("task_lost_node", task)
    await recorder.keep("node_offline", "gpu-silent")
    await api.post("/gpus/other/fault?reason=fan")
    await asyncio.sleep(1)
    await recorder.keep("node_faulty", "gpu-other")
    await api.ask("DELETE", "/gpus/other")
    await asyncio.sleep(1)
    await recorder.keep("node_gone", "gpu-other")
    async for run in recorder.client.list_workflows("WorkflowType='MonitorWorkflow' AND ExecutionStatus='Completed'"):
        await recorder.keep("monitor", run.id)
        break


async def commanded(recorder: Recorder) -> None:
    """A person signals a node's workflow: fault and recover, and what no workflow knows.

    The version of 2026-11-29 ignored such signals: its history is `node_ignored_commands`. A signal without input
    stopped the workflow there, as in `node_stuck_command`.
    """
    node = await recorder.node("commanded", 7)
    handle = recorder.client.get_workflow_handle("gpu-commanded")
    await handle.signal("fault", {"reason": "ECC"})
    await asyncio.sleep(1)
    await handle.signal("explode")
    await handle.signal("recover", {"reason": "replaced"})
    await asyncio.sleep(1)
    for call in ("fault?reason=fan", "recover"):
        await recorder.api.post(f"/gpus/{node.gpu_id}/{call}")
        await asyncio.sleep(1)
    await recorder.keep("node_commanded", "gpu-commanded")


async def drained(recorder: Recorder) -> None:
    """A node is drained and undrained, by REST and by a person's signals.

    The version of 2026-11-29 ignored such signals: its history is `node_ignored_drains`.
    """
    await recorder.node("drained", 10)
    handle = recorder.client.get_workflow_handle("gpu-drained")
    await recorder.api.post("/gpus/drained/drain", {"reason": "fan"})
    await asyncio.sleep(1)
    for name in ("undrain", "drain", "fault", "recover"):
        await handle.signal(name, {"reason": "disk"})
        await asyncio.sleep(1)
    await recorder.api.post("/gpus/drained/undrain")
    await asyncio.sleep(1)
    await recorder.keep("node_drained", "gpu-drained")

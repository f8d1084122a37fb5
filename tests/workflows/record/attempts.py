"""Tasks whose attempts end in every way."""

from __future__ import annotations

import asyncio
import time

from tests.workflows.record.recorder import Recorder


async def tasks(recorder: Recorder) -> None:
    api = recorder.api
    one = await recorder.node("one", 1)
    task = await api.create(1)
    await api.say(await one.next_put(), "FAILED", "boom")
    running = await one.next_put()
    await recorder.keep("task_running", f"task-{task}")
    waiting = await api.create(1)
    await asyncio.sleep(1)
    await recorder.keep("task_waiting", f"task-{waiting}")
    await api.succeed(running, {"n": 1})
    await recorder.keep_ended("task_retried", task)
    await api.succeed(await one.next_put(), {"n": 2})
    await recorder.keep_ended("task_completed", waiting)
    await recorder.keep("node_active", "gpu-one")
    slow = await recorder.node("slow", 901)
    late = await api.create(901)
    await slow.next_put()
    await recorder.keep_ended("task_timed_out", late, "TIMEOUT")


async def misled(recorder: Recorder) -> None:
    """A task is notified that its attempt is closed, which is not so."""
    node = await recorder.node("misled", 3)
    task = await recorder.api.create(3)
    await node.next_put()
    await recorder.api.until(task, "PROCESSING")
    await recorder.client.get_workflow_handle(f"task-{task}").signal("settled", 1)
    await recorder.api.succeed(await node.next_put(), {})
    await recorder.keep_ended("task_misled", task)


async def claimed(recorder: Recorder) -> None:
    """A task gets its slot with its creation, and fails there."""
    node = await recorder.node("ready", 5)
    task = await recorder.api.create(5)
    await recorder.api.say(await node.next_put(), "FAILED", "boom")
    await recorder.api.succeed(await node.next_put(), {})
    await recorder.keep_ended("task_claimed_at_creation", task)


async def short(recorder: Recorder) -> None:
    """Work that is answered in its dispatch, or waited for there in vain."""
    node = await recorder.node("quick", 6)
    first = await recorder.api.create(6)  # it shows how long such work takes
    await recorder.api.succeed(await node.next_put(), {})
    await recorder.api.until(first, "COMPLETED")
    accepted, node.answer = node.answer, (200, {"status": "succeeded", "output": {}})
    task = await recorder.api.create(6)
    await node.next_put()
    await recorder.keep_ended("task_watched", task)
    node.answer, node.delay = accepted, 1.0
    slow = await recorder.api.create(6)
    put = await node.next_put()
    await asyncio.sleep(2)
    await recorder.api.succeed(put, {})
    await recorder.keep_ended("task_watched_in_vain", slow)


async def handed_back(recorder: Recorder) -> None:
    """A task is taken from a draining node at the deadline."""
    node = await recorder.node("due", 11)
    task = await recorder.api.create(11)
    await node.next_put()
    await recorder.api.until(task, "PROCESSING")
    other = await recorder.node("fallback", 11)
    await recorder.api.post("/gpus/due/drain", {"reason": "fan", "deadline": int(time.time() * 1000) + 1000})
    await recorder.api.succeed(await other.next_put(), {})
    await recorder.keep_ended("task_handed_back", task)


async def stopped_beside(recorder: Recorder) -> None:
    """A task goes on elsewhere while its old node stops slowly."""
    node = await recorder.node("hangs", 15)
    node.cancel_hold = asyncio.Event()
    task = await recorder.api.create(15)
    await node.next_put()
    await recorder.api.until(task, "PROCESSING")
    other = await recorder.node("goes_on", 15)
    await recorder.api.post("/gpus/hangs/fault?reason=fan")
    put = await other.next_put()
    node.cancel_hold.set()
    await asyncio.sleep(1)
    await recorder.api.succeed(put, {})
    await recorder.keep_ended("task_stopped_beside", task)

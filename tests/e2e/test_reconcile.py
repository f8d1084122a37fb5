"""What fell between the database and the engine is found and mended by the monitor."""

from __future__ import annotations

import asyncio

from tests.conftest import eventually

SLOW = 60.0  # s; the reconciler leaves alone what may still be on its way


async def test_a_workflow_that_was_terminated_is_started_again_where_its_task_needs_it(api, make_node, temporal):
    """What an operator can do in the Web UI, at four moments of a task's life, side by side."""

    async def terminate(task_id):
        await temporal.get_workflow_handle(f"task-{task_id}").terminate("by a test")

    async def with_an_accepted_result():
        node = await make_node("mend_result", [401])
        task_id = await api.create(401)
        put = await node.next_put()
        await api.until(task_id, "PROCESSING")
        await terminate(task_id)
        await api.succeed(put, {"n": 1})
        assert (await api.until(task_id, "COMPLETED", within=SLOW))["retryCount"] == 0
        assert node.puts.empty()

    async def with_a_failure():
        node = await make_node("mend_failure", [402])
        task_id = await api.create(402, maxRetries=1)
        put = await node.next_put()
        await api.until(task_id, "PROCESSING")
        await terminate(task_id)
        await api.say(put, "FAILED", "boom")
        await api.succeed(await node.next_put(SLOW), {})
        assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 1

    async def past_its_deadline():
        node = await make_node("mend_deadline", [403])
        task_id = await api.create(403, timeout=500, maxRetries=0)
        await node.next_put()
        await terminate(task_id)
        await api.until(task_id, "TIMEOUT", within=SLOW)

    async def while_it_waits():
        task_id = await api.create(404)
        await eventually(lambda: _waits(temporal, task_id))
        await terminate(task_id)
        node = await make_node("mend_waiting", [404])
        await api.succeed(await node.next_put(SLOW), {})
        assert (await api.until(task_id, "COMPLETED"))["retryCount"] == 0

    await asyncio.gather(with_an_accepted_result(), with_a_failure(), past_its_deadline(), while_it_waits())


async def _waits(temporal, task_id):
    """Whether the workflow has looked for a slot; a fresh one has two events."""
    return (await temporal.get_workflow_handle(f"task-{task_id}").describe()).history_length > 3

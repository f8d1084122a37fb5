"""A batch that kill -9 of the API cuts off: it is there whole or not at all, and each of its workflows is started."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from tests.conftest import eventually
from tests.e2e.inside import select
from tests.e2e.test_operations import done

TYPES = {"while it is written": 860, "between commit and answer": 861, "while its workflows are started": 862}
COUNT, CHARACTERS = 100, 60_000
"""A batch of few tasks, since each costs a workflow, whose payloads take a while to write."""


@pytest.mark.parametrize("when", TYPES)
async def test_a_batch_outlives_the_process_that_took_it(api, stack, temporal, when):
    task_type = TYPES[when]
    one = {"taskType": task_type, "userId": "u", "app": "a", "payload": "x" * CHARACTERS}
    headers = {"Idempotency-Key": f"cut off {task_type}"}
    rows = "SELECT task_id, outbox IS NULL AS started FROM tasks LEFT JOIN outbox USING (task_id)"
    rows += f" WHERE task_type = {task_type} ORDER BY display_id"

    async def post():
        return await api.post("/tasks/batch", {"tasks": [one] * COUNT}, headers=headers)

    async def is_there():
        return len(await select(stack, rows)) > 0

    first = asyncio.create_task(post())
    if when == "while it is written":
        writes = "SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND query ~ 'json_to_recordset'"
        await eventually(lambda: select(stack, writes))
    elif when == "between commit and answer":
        await eventually(is_there)
    else:
        await first
    part = stack.part("api")
    part.kill()
    with contextlib.suppress(httpx.HTTPError):
        await first
    await part.until_ready(60)
    assert len(await select(stack, rows)) in ((0, COUNT) if when == "while it is written" else (COUNT,))
    created = await post()
    assert [row["task_id"] for row in await select(stack, rows)] == [one["taskId"] for one in created]
    assert await post() == created

    async def all_started():
        return all(row["started"] for row in await select(stack, rows))

    await eventually(all_started, within=90)
    for task_id in (created[0]["taskId"], created[-1]["taskId"]):
        await temporal.get_workflow_handle(f"task-{task_id}").describe()
    open_ones = f"TaskType = {task_type} AND ExecutionStatus = 'Running'"
    await eventually(lambda: _is_count(temporal, open_ones, COUNT))
    await done(api, (await api.post("/tasks/cancel", {"filter": {"taskType": task_type}}))["operationId"])


async def _is_count(temporal, query, count):
    return (await temporal.count_workflows(query)).count == count

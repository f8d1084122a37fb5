"""Bulk operations whose worker is killed in the middle: each task is changed once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest
from temporalio.client import Client

from infra.settings import ENV_PREFIX
from tests.begun import begun
from tests.conftest import eventually, frontend, thrown_away
from tests.e2e.inside import select
from tests.e2e.test_operations import done
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

MANY = 10_000
SLOW = 60.0
OPEN = "WorkflowType = 'TaskWorkflow' AND ExecutionStatus = 'Running'"
FILL = """
    WITH made AS (
        INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, queue_class, queue_rank, payload,
                           timeout_ms, max_retries, waiting_since, event_seq)
        SELECT 'task_' || %s || '_' || i, %s, 'QUEUED', 'u', 'many', 1, 0, i, '{}', 60000, 0, clock_timestamp(), 1
          FROM generate_series(1, %s) i
     RETURNING task_id)
    INSERT INTO task_events (task_id, seq, to_status, actor) SELECT task_id, 1, 'QUEUED', 'tests' FROM made
 RETURNING seq
"""


@pytest.fixture(scope="module")
async def running(tmp_path_factory):
    settings = stack_settings(begun(tmp_path_factory.mktemp("operations")))
    async with thrown_away(Stack(settings, nodes=0)) as stack:
        yield stack


@pytest.fixture
async def admin(running):
    async with frontend(running) as caller:
        yield caller


SPARE = """
    WITH rest AS (SELECT task_id FROM outbox_ends WHERE starts_with(task_id, 'task_730_') FOR UPDATE SKIP LOCKED),
         gone AS (DELETE FROM outbox_ends o USING rest WHERE o.task_id = rest.task_id RETURNING 1)
  SELECT count(*) AS n FROM gone
"""
"""Ends of `FILL`, which makes no workflows. Some have been notified by then; all of them would take 90 s of CPU."""


async def killed_in_between(stack, api, operation_id, matched):
    """Kill the worker once some are done, and return how the operation ends."""

    async def has_begun():
        return (await api.get(f"/operations/{operation_id}"))["done"]

    assert 0 < await eventually(has_begun) < matched
    stack.part("worker").kill()
    return await done(api, operation_id, within=SLOW)


async def a_total_is_a_bound(api):
    """Check the total of a list that no kept count knows."""
    response = await api.http.get("/tasks?taskType=730&app=many&size=20")
    assert response.headers["X-Total-Count"] == str(MANY)
    assert (response.headers["X-Total-Count-Exact"], "last" in response.links) == ("true", True)
    for page, links in ((1, {"first", "next"}), (499, {"first", "prev", "next"}), (500, {"first", "prev"})):
        response = await api.http.get(f"/tasks?endReason=CANCELLED&size=20&page={page}")
        assert (response.headers["X-Total-Count"], response.headers["X-Total-Count-Exact"]) == (str(MANY), "false")
        assert set(response.links) == links
        assert len(response.json()["data"]) == 20
        api.contract.check(response)
    for page in (501, 2**31 - 1):
        await api.get(f"/tasks?endReason=CANCELLED&size=20&page={page}", code=400)


async def nothing_left(stack):
    """Every end has reached its workflow, and `verify` finds nothing."""
    client = await Client.connect(stack.services.temporal_address, namespace=stack.services.temporal_namespace)

    async def all_notified():
        (row,) = await select(stack, "SELECT count(*) AS n FROM outbox_ends")
        return not row["n"] and not (await client.count_workflows(OPEN)).count

    await eventually(all_notified, within=120)
    chosen = {
        "DATABASE_URL": stack.services.database_url,
        "TEMPORAL_ADDRESS": stack.services.temporal_address,
        "TEMPORAL_NAMESPACE": stack.services.temporal_namespace,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.cli", "verify", "--json", "--settled"),
        env={**os.environ, **{ENV_PREFIX + name: value for name, value in chosen.items()}},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found = json.loads(output)
    assert found["ok"], [one for one in found["checks"] if one["violations"]]


@pytest.mark.timeout(300)
async def test_each_is_retried_once(running, admin):
    await select(running, FILL, "731", 731, 200)
    answer = await admin.post("/tasks/cancel", {"filter": {"taskType": 731}})
    await done(admin, answer["operationId"], within=SLOW)
    answer = await admin.post("/tasks/retry", {"filter": {"taskType": 731, "endReason": "CANCELLED"}})
    found = await killed_in_between(running, admin, answer["operationId"], answer["matched"])
    assert (found["matched"], found["done"], found["failed"]) == (200, 200, 0)
    counted = "SELECT count(DISTINCT retry_of) AS old, count(*) AS new FROM tasks WHERE retry_of IS NOT NULL"
    assert await select(running, counted) == [{"old": 200, "new": 200}]
    answer = await admin.post("/tasks/cancel", {"filter": {"taskType": 731}})
    assert (await done(admin, answer["operationId"], within=SLOW))["done"] == 200
    await nothing_left(running)


@pytest.mark.timeout(300)
async def test_ten_thousand_are_cancelled(running, admin):
    """Most have no workflow: as after an import, or a long absence of Temporal. `verify` looks for each of them."""
    for _ in range(20):
        await admin.create(730)
    await select(running, FILL, "730", 730, MANY)
    chosen = {"filter": {"taskType": 730, "status": "QUEUED"}}
    assert await admin.post("/tasks/cancel", {**chosen, "dryRun": True}) == {"matched": MANY + 20}
    answer = await admin.post("/tasks/cancel", chosen)
    found = await killed_in_between(running, admin, answer["operationId"], answer["matched"])
    assert (found["matched"], found["done"], found["failed"]) == (MANY + 20, MANY + 20, 0)
    counted = "SELECT end_reason, status, count(*) AS n FROM tasks WHERE task_type = 730 GROUP BY 1, 2"
    assert await select(running, counted) == [{"end_reason": "CANCELLED", "status": "FAILED", "n": MANY + 20}]
    await select(running, SPARE)
    await a_total_is_a_bound(admin)
    await nothing_left(running)

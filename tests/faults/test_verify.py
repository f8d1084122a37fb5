"""`gpu-orchestrator verify` against Temporal, and as a program: each disagreement is made by hand and found."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowFailureError
from temporalio.common import WorkflowIDReusePolicy

from infra.db.repair import verify
from infra.db.session import Database
from infra.settings import ENV_PREFIX, Settings
from infra.temporal import executions
from infra.temporal.schedules import MONITOR
from infra.temporal.task_workflows import task_workflow_id
from tests.conftest import eventually
from tests.e2e.inside import is_started
from workers.stack.process import run_to_end
from workers.verify import workflows
from workers.verify.report import BROKEN, HOLDS, UNREAD, Report
from workers.verify.run import located
from workflows.messages import TaskInput
from workflows.task import TaskWorkflow

CANCELLED = (  # before the start of its workflow, so it has none
    "UPDATE tasks SET status = 'FAILED', completed_at = clock_timestamp(), end_reason = 'CANCELLED'"
    " WHERE task_id = 'task_unheard_of'"
)
ENDED = "UPDATE tasks SET status = 'FAILED', waiting_since = NULL, completed_at = clock_timestamp() - interval '%s s'"
KEEPS = timedelta(days=30)
COPIED = """
    INSERT INTO tasks (task_id, task_type, status, user_id, app, priority, payload, timeout_ms, max_retries,
                       queue_class, queue_rank)
    VALUES (%s, 1, 'QUEUED', 'u', 'a', 1, '{}', 1, 0, 0, 0)
"""


class Hand:
    """Writes what no program of ours would write."""

    def __init__(self, stack: Any, temporal: Any) -> None:
        self._url = stack.services.database_url
        self._queue = stack.settings.task_queue
        self.temporal = temporal

    async def sql(self, statement: str, *values: Any, counted: bool = True) -> None:
        """Run a statement; what is not counted (rows that come and go) leaves the kept counts alone."""
        url = self._url.replace("postgresql+psycopg", "postgresql")
        async with await psycopg.AsyncConnection.connect(url) as connection:
            if not counted:
                await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(statement, values)

    async def start(self, task_id: str) -> None:
        """One more workflow for a task, though it has had one."""
        handle = await self.temporal.start_workflow(
            TaskWorkflow.run,
            TaskInput(task_id, 1, "u", "a", 1, 1000),
            id=task_workflow_id(task_id),
            task_queue=self._queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        with suppress(WorkflowFailureError):  # as its task
            await handle.result()

    async def found(self, *task_ids: str, keeps_tasks: timedelta = KEEPS) -> list[str]:
        """The findings about these tasks; other tests leave theirs behind."""
        database = Database(self._url, connections=4)
        try:
            rows = {row.task_id: row for row in await database.run(verify.tasks)}
            agreement = workflows.Agreement(self.temporal, database, False, await self.retention(), keeps_tasks)
            await agreement.check({task_id: rows[task_id] for task_id in task_ids if task_id in rows})
        finally:
            await database.close()
        every = agreement.broken + agreement.doubled
        return sorted(one for one in every if one.startswith(tuple(task_ids)))

    async def retention(self) -> Any:
        return await executions.retention(self.temporal)

    async def visible(self, task_id: str, count: int = 1) -> None:
        """The list of workflows lags behind."""

        async def listed() -> bool:
            query = f"WorkflowId = '{task_workflow_id(task_id)}'"
            return (await self.temporal.count_workflows(query)).count == count

        await eventually(listed)


@pytest.fixture
def hand(stack, temporal):
    return Hand(stack, temporal)


@pytest.fixture
async def waiting(api, temporal):
    """A task that nobody will run; its workflow is closed in the end."""
    task_id = await api.create(499)
    workflow = temporal.get_workflow_handle(task_workflow_id(task_id))
    await eventually(lambda: is_started(temporal, task_id))
    yield task_id
    if (await workflow.describe()).close_time is None:
        await workflow.terminate("by a test")


async def completed(api, make_node, task_type):
    node = await make_node(f"verify_{task_type}", [task_type])
    task_id = await api.create(task_type)
    await api.succeed(await node.next_put(), {})
    await api.until(task_id, "COMPLETED")
    return task_id


async def reset(temporal, workflow_id):
    """Back to the first step, as in the Web UI."""
    events = (await temporal.get_workflow_handle(workflow_id).fetch_history()).events
    first = next(one for one in events if one.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
    await temporal.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            reason="by a test",
            workflow_task_finish_event_id=first.event_id,
            request_id=workflow_id,
        )
    )


async def test_what_agrees_is_not_found(hand, api, make_node, waiting):
    done = await completed(api, make_node, 490)
    assert await hand.found(done, waiting) == []


async def test_another_status_is_found(hand, api, make_node, temporal):
    task_id = await completed(api, make_node, 491)
    await temporal.get_workflow_handle(task_workflow_id(task_id)).result()
    await hand.sql("UPDATE tasks SET status = 'FAILED' WHERE task_id = %s", task_id)
    assert await hand.found(task_id) == [f"{task_id} is FAILED, its workflow ended with COMPLETED"]


async def test_a_cancelled_task_has_a_cancelled_workflow_and_no_other_one_has(hand, api, make_node, waiting, temporal):
    done = await completed(api, make_node, 494)
    await temporal.get_workflow_handle(task_workflow_id(done)).result()
    await hand.sql("UPDATE tasks SET status = 'FAILED', end_reason = 'CANCELLED' WHERE task_id = %s", done)
    assert await hand.found(done) == [f"{done} is CANCELLED, its workflow ended with COMPLETED"]
    await api.post(f"/tasks/{waiting}/cancel")
    with pytest.raises(WorkflowFailureError):
        await temporal.get_workflow_handle(task_workflow_id(waiting)).result()
    assert await hand.found(waiting) == []
    await hand.sql("UPDATE tasks SET end_reason = 'REJECTED' WHERE task_id = %s", waiting)
    assert await hand.found(waiting) == [f"{waiting} is FAILED, its workflow ended with CANCELLED"]


async def test_a_second_workflow_is_found(hand, api, make_node, temporal):
    task_id = await completed(api, make_node, 492)
    await temporal.get_workflow_handle(task_workflow_id(task_id)).result()
    await hand.start(task_id)
    await hand.visible(task_id, 2)
    assert await hand.found(task_id) == [f"{task_id} has 2 workflows"]


async def test_a_workflow_that_a_person_reset_is_no_second_one(hand, api, make_node, temporal):
    task_id = await completed(api, make_node, 493)
    await temporal.get_workflow_handle(task_workflow_id(task_id)).result()
    await reset(temporal, task_workflow_id(task_id))
    await temporal.get_workflow_handle(task_workflow_id(task_id)).result()
    await hand.visible(task_id, 2)
    assert await hand.found(task_id) == []


async def test_a_workflow_without_a_row_is_found(hand):
    await hand.start("task_nobody")
    await hand.visible("task_nobody")
    assert await hand.found("task_nobody") == ["task_nobody has a workflow and no row"]
    assert await hand.found("task_nobody", keeps_tasks=timedelta()) == []  # its row may be forgotten


async def test_a_row_without_a_workflow_is_found(hand):
    await hand.sql(COPIED, "task_unheard_of", counted=False)
    assert await hand.found("task_unheard_of") == ["task_unheard_of is QUEUED and has no workflow"]
    await hand.sql(CANCELLED, counted=False)
    assert await hand.found("task_unheard_of") == []
    await hand.sql("DELETE FROM tasks WHERE task_id = 'task_unheard_of'", counted=False)


async def test_a_closed_row_that_the_engine_may_have_forgotten_is_unknown(hand, stack, temporal, monkeypatch):
    """Temporal is not asked about it: there may be a million."""
    asked, describe = [], executions.describe

    def described(client, task_id, *run_id):
        asked.append(task_id)
        return describe(client, task_id, *run_id)

    monkeypatch.setattr(executions, "describe", described)
    database = Database(stack.services.database_url, connections=2)
    agreement = workflows.Agreement(temporal, database, True, await hand.retention(), KEEPS)
    await hand.sql(COPIED, "task_of_old", counted=False)
    await hand.sql(ENDED.replace("%s", "1000000000") + " WHERE task_id = 'task_of_old'", counted=False)
    (row,) = await database.run(lambda c: verify.tasks(c, "task_of_old"))
    await agreement.check({"task_of_old": row})
    await database.close()
    await hand.sql("DELETE FROM tasks WHERE task_id = 'task_of_old'", counted=False)
    assert agreement.unknown >= 1
    assert "task_of_old" not in asked
    assert [one for one in agreement.broken if "task_of_old" in one] == []


@pytest.fixture
async def unrepaired(temporal):
    """The reconciler, which would end such a workflow, does not run."""
    monitor = temporal.get_schedule_handle(MONITOR)
    await monitor.pause()

    async def at_rest() -> bool:
        return not (await monitor.describe()).info.running_actions

    await eventually(at_rest)
    yield
    await monitor.unpause()


@pytest.mark.usefixtures("unrepaired")
async def test_a_workflow_that_runs_on_is_found_after_a_while(hand, waiting):
    await hand.sql(ENDED.replace("%s", "0") + " WHERE task_id = %s", waiting)
    assert await hand.found(waiting) == []
    await hand.sql(ENDED.replace("%s", "3600") + ", created_at = '2020-01-01' WHERE task_id = %s", waiting)
    assert await hand.found(waiting) == [f"{waiting} is FAILED, its workflow runs"]


async def test_a_terminated_workflow_is_found(hand, waiting, temporal):
    await temporal.get_workflow_handle(task_workflow_id(waiting)).terminate("by a test")
    assert await hand.found(waiting) == [f"{waiting} is QUEUED, its workflow is TERMINATED"]


async def program(*words: str, **settings: str) -> tuple[int, list[str]]:
    """The command, as an operator calls it."""
    lines: list[str] = []
    env = {**os.environ, **{ENV_PREFIX + name.upper(): value for name, value in settings.items()}}
    status = await run_to_end((sys.executable, "-m", "workers.cli", "verify", *words), lines.append, env=env)
    return status, lines


async def test_it_finds_the_embedded_stack_and_says_what_it_could_not_read(stack, tmp_path):
    """The session's books are those of all tests: what is said about them is not asked here."""
    here = {"data_dir": str(stack.settings.data_dir), "temporal_port": str(stack.settings.temporal_port)}
    status, lines = await program("--json", "--node-log", str(tmp_path / "none"), **here)
    report = json.loads(lines[-1])
    assert (status, report["unread"]) == (UNREAD, [f"{tmp_path / 'none'}: No such file or directory"])
    assert len(report["checks"]) == 24
    assert all(check["rows"] >= check["violations"] >= 0 for check in report["checks"] if check["rows"])

    status, lines = await program(**here | {"temporal_port": "1"})
    assert (status, lines[-1].partition(":")[0]) == (UNREAD, "could not be read")

    status, lines = await program(data_dir=str(tmp_path / "nowhere"))
    assert (status, lines) == (
        UNREAD,
        ["error: no address is set, and there is no embedded stack in ORCHESTRATOR_DATA_DIR"],
    )
    assert not (tmp_path / "nowhere").exists()


def test_given_addresses_are_taken(tmp_path: Path):
    settings = Settings(database_url="postgresql://a", temporal_address="b:1", data_dir=tmp_path / "none")
    assert located(settings) is settings


def test_the_exit_status_and_the_table_say_what_was_found():
    report = Report(settled=False, findings=[verify.Finding(1, "sound", 7)])
    assert (report.status, json.loads(report.as_json())["ok"]) == (HOLDS, True)
    report.findings.append(verify.Finding.of(2, "broken", 9, (f"task_{n}" for n in range(7))))
    assert (report.status, report.violations) == (BROKEN, 7)
    assert report.as_table().splitlines()[1:] == [
        " 1          7       0  sound",
        " 2          9       7  broken",
        *(f"{'':23}task_{n}" for n in range(5)),
        f"{'':23}… and 2 more",
    ]
    report.unread.append("Temporal: away")
    assert report.status == UNREAD

"""Committed histories replay with the production converter and sandbox: a change of commands is caught here.

The histories were taken from the real Temporal by `python -m tests.workflows.record`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner

from infra.settings import Settings
from infra.temporal.access import DATA_CONVERTER
from workers.temporal_worker import WORKFLOWS, workflow_runner
from workflows.task import CANCEL_CANCELS

HISTORIES = Path(__file__).parent / "histories"
WANTED = {
    "task_completed",
    "task_retried",
    "task_timed_out",
    "task_lost_node",
    "task_misled",
    "task_granted_falsely",
    "task_waiting",
    "task_granted_first",
    "task_claimed_at_creation",
    "task_watched",
    "task_watched_in_vain",
    "task_granted_by_update",
    "task_retry_waiting",
    "task_retry_waited",
    "task_begun_by_a_signal",
    "task_running",
    "task_ended_failed",
    "task_ended_timed_out",
    "task_found_failed",
    "task_found_completed",
    "node_active",
    "node_offline",
    "node_faulty",
    "node_gone",
    "task_continued",
    "task_after_continue",
    "node_commanded",
    "node_ignored_commands",
    "node_stuck_command",
    "node_drained",
    "task_handed_back",
    "task_stopped_beside",
    "node_ignored_drains",
    "node_continued",
    "node_after_continue",
    "monitor",
    "webhook_idle",
    "webhook_paused",
    "webhook_resumed",
    "webhook_deleted",
    "webhook_cancelled",
    "webhook_continued",
    "webhook_after_continue",
    "retention",
    "task_cancelled_running",
    "task_cancelled_by_a_person",
    "task_cancelled_before_its_first_step",
    "task_cancelled_in_its_backoff",
    "task_cancelled_unasked",
    "task_cancel_found_completed",
    "task_cancel_found_cancelled",
    "task_cancel_ended_the_run",
    "operation_cancel",
    "operation_retry",
    "operation_continued",
    "operation_after_continue",
}
OLD_CANCEL = "task_cancel_ended_the_run"


def test_every_outcome_has_a_history():
    assert {path.stem for path in HISTORIES.glob("*.json")} >= WANTED


async def replay(name: str, runner: WorkflowRunner) -> None:
    history = WorkflowHistory.from_json(f"recorded-{name}", (HISTORIES / f"{name}.json").read_text())
    started = history.events[0].workflow_execution_started_event_attributes
    own = [one for one in WORKFLOWS if one.__name__ == started.workflow_type.name]  # the sandbox loads each again
    replayer = Replayer(workflows=own, data_converter=DATA_CONVERTER, workflow_runner=runner)
    await replayer.replay_workflow(history)


@pytest.mark.parametrize("name", [path.stem for path in sorted(HISTORIES.glob("*.json"))])
async def test_replays(name):
    await replay(name, workflow_runner(Settings()))


@pytest.mark.parametrize("name", sorted(name for name in WANTED if "cancel" in name))
async def test_a_cancel_replays_without_the_sandbox(name):
    await replay(name, UnsandboxedWorkflowRunner())


async def test_an_old_history_with_a_request_to_cancel_needs_the_guard(monkeypatch):
    """Such a run is closed. It is replayed for a query in the Web UI."""
    patched = workflow.patched
    monkeypatch.setattr(workflow, "patched", lambda change: change == CANCEL_CANCELS or patched(change))
    with pytest.raises(workflow.NondeterminismError):
        await replay(OLD_CANCEL, UnsandboxedWorkflowRunner())

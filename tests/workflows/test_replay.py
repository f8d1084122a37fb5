"""Committed histories replay with the production converter and sandbox: a change of commands is caught here.

The histories were taken from the real engine by `python -m tests.workflows.record`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from infra.settings import Settings
from infra.temporal.access import DATA_CONVERTER
from workers.temporal_worker import WORKFLOWS, workflow_runner

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
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
    "node_ignored_drains",
    "node_continued",
    "node_after_continue",
    "monitor",
}


def test_every_outcome_has_a_history():
    assert {path.stem for path in HISTORIES} >= WANTED


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_replays(path):
    replayer = Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER, workflow_runner=workflow_runner(Settings()))
    history = WorkflowHistory.from_json(f"recorded-{path.stem}", path.read_text())
    await replayer.replay_workflow(history)

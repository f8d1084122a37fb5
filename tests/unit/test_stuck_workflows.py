"""The leader's help for workflows that can't go on: each gets a new run, and no other within an hour."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from infra.temporal.access import TemporalAway
from infra.temporal.open_workflows import PROBLEMS, StuckRun
from workers.leader import stuck_workflows
from workers.leader.stuck_workflows import EVERY_S, MOST_S, REPLACED_AGAIN_S, StuckWorkflows
from workflows.domain.health import Health, cluster_health

NODE = StuckRun("gpu-gpu_001", "run", "GpuHealthWorkflow", frozenset({"NonDeterministicError"}))
MONITOR = StuckRun("monitor-2026-11-29T09:00:00Z", "run", "MonitorWorkflow", frozenset())


class Around:
    """The clock, Temporal and the database, as far as they are asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.found = [NODE, MONITOR]
        self.done: list[str] = []

    async def stuck(self, limit: int) -> list[StuckRun]:
        return self.found

    async def terminate(self, run: StuckRun) -> None:
        self.done.append(f"end {run.workflow_id}")

    async def run_node_again(self, run: StuckRun) -> None:
        self.done.append(f"start {run.workflow_id}")

    async def run(self, work: Any) -> None:
        self.done.append("record")


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Around:
    around = Around()
    monkeypatch.setattr(stuck_workflows, "time", SimpleNamespace(monotonic=lambda: around.now))
    return around


async def looked(one: StuckWorkflows) -> None:
    await one.find()
    await asyncio.gather(*filter(None, [one._under_way]))


async def test_each_is_run_again_and_only_once_within_an_hour(around):
    one = StuckWorkflows(around, around, around)
    await looked(one)
    both = ["end gpu-gpu_001", "start gpu-gpu_001", f"end {MONITOR.workflow_id}"]
    assert around.done == ["record", *both]
    around.now += EVERY_S / 2
    await looked(one)
    assert around.done == ["record", *both]
    around.now += EVERY_S
    await looked(one)
    assert around.done == ["record", *both, "record"]
    around.now += REPLACED_AGAIN_S
    await looked(one)
    assert around.done == ["record", *both, "record", "record", *both]


@pytest.mark.parametrize(("took_s", "pause_s"), [(0.001, EVERY_S), (0.05, 15.0), (5.0, MOST_S)])
async def test_a_search_that_takes_long_is_not_soon_repeated(around, monkeypatch, took_s, pause_s):
    async def stuck(limit: int) -> list[StuckRun]:
        around.now += took_s
        return around.found

    monkeypatch.setattr(around, "stuck", stuck)
    one, began = StuckWorkflows(around, around, around), around.now
    await looked(one)
    around.now = began + pause_s - 0.1
    await looked(one)
    assert around.done.count("record") == 1
    around.now = began + pause_s + 0.1
    await looked(one)
    assert around.done.count("record") == 2


async def test_nothing_is_recorded_of_nothing(around):
    around.found = []
    await looked(StuckWorkflows(around, around, around))
    assert around.done == []


async def test_one_that_cannot_be_helped_holds_up_no_other(around, monkeypatch, caplog):
    async def fails(run: StuckRun) -> None:
        raise ValueError("no")

    monkeypatch.setattr(around, "run_node_again", fails)
    await looked(StuckWorkflows(around, around, around))
    assert around.done == ["record", "end gpu-gpu_001", f"end {MONITOR.workflow_id}"]
    assert "could not replace stuck workflow gpu-gpu_001" in caplog.text


async def test_one_that_could_not_be_ended_is_tried_again_at_the_next_look(around, monkeypatch):
    """Temporal was away for a moment: the hour between two new runs has not begun."""
    end = around.terminate

    async def is_away(run: StuckRun) -> None:
        monkeypatch.setattr(around, "terminate", end)
        raise TemporalAway

    monkeypatch.setattr(around, "terminate", is_away)
    one = StuckWorkflows(around, around, around)
    await looked(one)
    assert around.done == ["record"]
    around.now += EVERY_S
    await looked(one)
    assert around.done == ["record", "record", "end gpu-gpu_001", "start gpu-gpu_001", f"end {MONITOR.workflow_id}"]


def test_the_causes_are_read_from_what_the_server_says():
    said = ["category=WorkflowTaskFailed", "cause=WorkflowTaskFailedCauseNonDeterministicError"]
    attributes = TypedSearchAttributes([SearchAttributePair(PROBLEMS, said)])
    listed: Any = SimpleNamespace(
        id="task-1", run_id="r", workflow_type="TaskWorkflow", typed_search_attributes=attributes
    )
    assert StuckRun.of(listed) == StuckRun("task-1", "r", "TaskWorkflow", frozenset({"NonDeterministicError"}))


def test_health_counts_them():
    assert cluster_health(2, 2, has_leader=True) is Health.HEALTHY
    assert cluster_health(2, 2, has_leader=True, stuck=1) is Health.DEGRADED

"""The course of the demo against a scripted orchestrator: when the node is killed, and what counts as moved."""

from __future__ import annotations

import asyncio
import io
import re
import signal
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from workers.demo import show
from workers.demo.batch import TILE_TYPE, Job
from workers.demo.board import Board
from workers.demo.client import Orchestrator, Record
from workers.demo.report import Outcome, print_table, print_verdict, write_results
from workers.demo.tracked import Tracked
from workers.stack.stack import Stack

NODES = ("gpu_001", "gpu_002")


class FakeSystem:
    """Two nodes with one slot each; every look is one step; what ran on a killed node is queued again."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.story: dict[str, list[Record]] = {}
        self.killed: str | None = None
        self.name = ""

    def part(self, name: str) -> FakeSystem:
        self.name = name
        return self

    async def stop(self, number: signal.Signals) -> None:
        assert number == signal.SIGKILL
        self.killed = self.name

    async def active_nodes(self) -> set[str]:
        return set(NODES)

    async def create(self, job: Job) -> Record:
        number = len(self.records) + 1
        task_id = f"task_{number}"
        self.records[task_id] = {"taskId": task_id, "status": "QUEUED", "gpuId": None, "createdAt": 0}
        self.story[task_id] = []
        return {"taskId": task_id, "displayId": number}

    async def tasks(self) -> dict[str, Record]:
        for task_id, record in self.records.items():
            if record["status"] == "PROCESSING" and record["gpuId"] == self.killed:
                record |= {"status": "QUEUED", "gpuId": None}
            elif record["status"] == "PROCESSING":
                record |= {"status": "COMPLETED", "completedAt": 2500}
            elif record["status"] == "QUEUED" and (free := self._free()):
                record |= {"status": "PROCESSING", "gpuId": free}
                story = self.story[task_id]
                story.append({"seq": len(story), "attempt": len(story) + 1, "gpuId": free})
        return {task_id: dict(record) for task_id, record in self.records.items()}

    async def progress(self, task_id: str) -> int:
        return 50

    async def events(self, task_id: str) -> list[Record]:
        return self.story[task_id]

    async def result(self, task_id: str) -> Record:
        return {}

    def _free(self) -> str | None:
        busy = {record["gpuId"] for record in self.records.values() if record["status"] == "PROCESSING"}
        return next((node for node in NODES if node not in busy and node != self.killed), None)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


async def perform(system: FakeSystem, console: Console, jobs: int = 12) -> Outcome:
    board = Board(console, NODES)
    work = [Job(TILE_TYPE, {"x": 0, "y": number}, Path(f"{number}.png"), (1, 1)) for number in range(jobs)]
    with board:
        return await show.Show(cast(Stack, system), cast(Orchestrator, system), board, NODES).perform(work)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def right(job: Job, status: str, error: str | None, result: dict[str, Any]) -> str | None:
        return None if status == "COMPLETED" else status

    monkeypatch.setattr(show, "STEP", 0.001)
    monkeypatch.setattr(show, "problem", right)


async def test_the_node_is_killed_in_the_middle_and_its_task_moves(console: Console, tmp_path: Path) -> None:
    system = FakeSystem()
    outcome = await perform(system, console)
    assert system.killed == outcome.killed == "gpu_002"
    assert outcome.failure is None
    [moved] = outcome.moved
    assert moved.nodes == ["gpu_002", "gpu_001"]
    assert moved.attempts == 2
    print_table(console, outcome)
    print_verdict(console, outcome, tmp_path / "picture.png")
    write_results(outcome, tmp_path / "results.json")
    text = cast(io.StringIO, console.file).getvalue()
    assert "gpu_002 → gpu_001" in text
    assert "all 12 tasks came out right" in text
    assert '"movedTasks": 1' in (tmp_path / "results.json").read_text(encoding="utf-8")


async def test_without_a_kill_the_demo_has_failed(console: Console) -> None:
    outcome = await perform(FakeSystem(), console, jobs=2)
    assert outcome.killed is None
    assert outcome.failure


async def test_a_task_that_does_not_end_fails_the_demo(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "DEADLINE", 0.05)
    system = FakeSystem()
    monkeypatch.setattr(system, "_free", lambda: None)
    outcome = await asyncio.wait_for(perform(system, console, jobs=3), 10)
    assert "3 of 3 tasks did not come out right" in (outcome.failure or "")


def test_nodes_are_remembered_without_events() -> None:
    task = Tracked("task_1", 1, Job(TILE_TYPE, {"x": 0, "y": 0}, Path("t.png"), (1, 1)))
    assert task.see({"status": "PROCESSING", "gpuId": "gpu_002"})
    assert not task.see({"status": "PROCESSING", "gpuId": "gpu_002"})
    assert not task.see({"status": "QUEUED", "gpuId": None})
    task.see({"status": "COMPLETED", "gpuId": "gpu_001", "createdAt": 1000, "completedAt": 3500})
    task.recall([])
    assert (task.nodes, task.attempts, task.seconds) == (["gpu_002", "gpu_001"], 2, 2.5)
    assert task.moved_off("gpu_002")
    assert not task.moved_off("gpu_001")


@pytest.mark.parametrize("width", [40, 59, 60, 61, 80, 120, 200, 250])
@pytest.mark.parametrize("done", [0, 7, 12])
def test_each_part_of_the_board_has_a_line_of_its_own(width: int, done: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, height=40, force_terminal=True, color_system=None, legacy_windows=False)
    tasks = [
        Tracked(f"task_{number}", number, Job(TILE_TYPE, {"x": 0, "y": number}, Path("t"), (1, 1)))
        for number in range(12)
    ]
    for task in tasks[:done]:
        task.status = "COMPLETED"
    for task in tasks[done:]:
        task.status, task.gpu_id, task.progress = "PROCESSING", "gpu_001", 100
    with Board(console, NODES) as board:
        board.show(tasks)
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    lines = [line.rstrip() for line in shown.splitlines()]
    assert [line[:7] for line in lines if line.startswith("gpu_")] == list(NODES)
    head, bar, *rest = lines[-4:]
    assert head.startswith(f"{done}/12 done")
    assert set(bar) <= {"━", "╸", "╺"}
    assert len(rest) == len(NODES)
    assert all(len(line) <= width for line in lines)

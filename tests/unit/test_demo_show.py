"""The course of the demo against a scripted orchestrator: when the node is killed, and what counts as moved."""

from __future__ import annotations

import asyncio
import io
import re
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from gpu_orchestrator_client import AsyncClient, Event, Node, Progress, Status, Submitted, Task
from workers.demo import show
from workers.demo.batch import TILE_TYPE, Job
from workers.demo.board import Board
from workers.demo.report import Outcome, print_table, print_verdict, write_results
from workers.demo.tracked import Tracked
from workers.stack.stack import Stack

NODES = ("gpu_001", "gpu_002")


def listed(task_id: str, **more: Any) -> Task:
    """A task as it is listed; times in Unix milliseconds."""
    return Task.model_construct(
        **{
            "task_id": task_id,
            "status": Status.QUEUED,
            "result": None,
            "error_message": None,
            "gpu_id": None,
            "completed_at": None,
            "created_at": moment(0),
            **more,
        }
    )


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


class FakeSystem:
    """Two nodes with one slot each; every look is one step; what ran on a killed node is queued again."""

    def __init__(self) -> None:
        self.listed: dict[str, Task] = {}
        self.starts: list[Event] = []
        self.killed: str | None = None
        self.name = ""

    def part(self, name: str) -> FakeSystem:
        self.name = name
        return self

    async def stop(self, number: signal.Signals) -> None:
        assert number == signal.SIGKILL
        self.killed = self.name

    async def nodes(self) -> list[Node]:
        return [Node(gpu_id=one, status="ACTIVE") for one in NODES]

    async def submit(self, task_type: int, payload: Any, **more: Any) -> Submitted:
        number = len(self.listed) + 1
        task_id = f"task_{number}"
        self.listed[task_id] = listed(task_id)
        return Submitted(task_id=task_id, display_id=number, status=Status.QUEUED)

    async def tasks(self) -> AsyncIterator[Task]:
        for task_id, task in self.listed.items():
            if task.status is Status.PROCESSING and task.gpu_id == self.killed:
                self._change(task, status=Status.QUEUED, gpu_id=None)
            elif task.status is Status.PROCESSING:
                self._change(task, status=Status.COMPLETED, completed_at=moment(2500))
            elif task.status is Status.QUEUED and (free := self._free()):
                self._change(task, status=Status.PROCESSING, gpu_id=free)
                attempt = 1 + sum(start.task_id == task_id for start in self.starts)
                self.starts.append(started(task_id, attempt, free))
        for task in self.listed.values():
            yield task

    async def progress(self, task_id: str) -> Progress:
        return Progress(task_id=task_id, status=Status.PROCESSING, progress=50)

    async def events(self) -> AsyncIterator[Event]:
        yield Event(id="evt_0", type="node.registered", time=0, gpu_id=NODES[0])
        for start in self.starts:
            yield start

    def _change(self, task: Task, **to: Any) -> None:
        self.listed[task.task_id] = task.model_copy(update=to)

    def _free(self) -> str | None:
        busy = {task.gpu_id for task in self.listed.values() if task.status is Status.PROCESSING}
        return next((node for node in NODES if node not in busy and node != self.killed), None)


def started(task_id: str, attempt: int, gpu_id: str) -> Event:
    return Event(
        id=f"evt_{attempt}", type="task.started", time=0, task_id=task_id, gpu_id=gpu_id, data={"attempt": attempt}
    )


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


async def perform(system: FakeSystem, console: Console, jobs: int = 12) -> Outcome:
    board = Board(console, NODES)
    work = [Job(TILE_TYPE, {"x": 0, "y": number}, Path(f"{number}.png"), (1, 1)) for number in range(jobs)]
    with board:
        return await show.Show(cast(Stack, system), cast(AsyncClient, system), board, NODES).perform(work)


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
    assert task.see(listed("task_1", status=Status.PROCESSING, gpu_id="gpu_002"))
    assert not task.see(listed("task_1", status=Status.PROCESSING, gpu_id="gpu_002"))
    assert not task.see(listed("task_1"))
    end = {"status": Status.COMPLETED, "created_at": moment(1000), "completed_at": moment(3500)}
    task.see(listed("task_1", gpu_id="gpu_001", **end))
    task.recall([])
    assert (task.nodes, task.attempts, task.seconds) == (["gpu_002", "gpu_001"], 2, 2.5)
    assert task.moved_off("gpu_002")
    assert not task.moved_off("gpu_001")


def test_nodes_that_polling_has_missed_are_recalled() -> None:
    task = Tracked("task_1", 1, Job(TILE_TYPE, {"x": 0, "y": 0}, Path("t.png"), (1, 1)))
    task.see(listed("task_1", status=Status.COMPLETED, gpu_id="gpu_001"))
    starts = [started("task_1", number, node) for number, node in enumerate(["gpu_002", "gpu_002", "gpu_001"], 1)]
    task.recall([Event(id="evt_0", type="task.created", time=0, task_id="task_1"), *starts])
    assert (task.nodes, task.attempts) == (["gpu_002", "gpu_001"], 3)


async def test_a_task_that_is_not_there_any_more_is_lost(console: Console) -> None:
    system = FakeSystem()
    fake = show.Show(cast(Stack, system), cast(AsyncClient, system), Board(console, NODES), NODES)
    task = Tracked("task_9", 9, Job(TILE_TYPE, {"x": 0, "y": 0}, Path("t.png"), (1, 1)))
    await fake._check([task])
    assert (task.status, task.problem) == ("LOST", "LOST")


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

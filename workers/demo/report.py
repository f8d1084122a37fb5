"""The outcome: the table of tasks, results.json, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workers.demo.tracked import Tracked


@dataclass(frozen=True, slots=True)
class Outcome:
    """A demo at its end."""

    tasks: Sequence[Tracked]
    killed: str | None  # the node; None when there was no moment to kill it

    @property
    def moved(self) -> list[Tracked]:
        """The tasks that moved from the killed node to others."""
        return [task for task in self.tasks if self.killed and task.moved_off(self.killed)]

    @property
    def failure(self) -> str | None:
        """Why this demo failed, or None."""
        wrong = [task for task in self.tasks if task.problem]
        if wrong:
            return f"{len(wrong)} of {len(self.tasks)} tasks did not come out right, first {wrong[0].display_id}: " + (
                wrong[0].problem or ""
            )
        if self.killed is None:
            return "no task was ever running on the node to kill"
        return None if self.moved else f"no task moved off {self.killed} when it was killed"


def print_table(console: Console, outcome: Outcome) -> None:
    """One row per task."""
    table = Table(title="tasks", row_styles=("", "dim"))
    for heading in ("displayId", "type", "work", "node", "attempts", "duration", "result"):
        table.add_column(heading, justify="right" if heading in ("displayId", "attempts", "duration") else "left")
    for task in outcome.tasks:
        path = " → ".join(task.nodes) or "-"
        moved = outcome.killed is not None and task.moved_off(outcome.killed)
        table.add_row(
            str(task.display_id),
            str(task.job.task_type),
            escape(task.job.label),
            f"[bold yellow]{path}[/]" if moved else path,
            str(task.attempts),
            "-" if task.seconds is None else f"{task.seconds:.1f} s",
            f"[red]{escape(task.problem)}[/]" if task.problem else "[green]right[/]",
        )
    console.print(table)


def print_verdict(console: Console, outcome: Outcome, picture: Path) -> None:
    """The last lines: where the picture is, what the kill did, and whether all is well."""
    console.print(f"picture: {picture}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"killed node: {outcome.killed}, tasks moved to other nodes: {len(outcome.moved)}", soft_wrap=True)
    if outcome.failure is not None:
        console.print(f"[bold red]failed:[/] {escape(outcome.failure)}", soft_wrap=True)
    else:
        console.print(f"[bold green]all {len(outcome.tasks)} tasks came out right[/]", soft_wrap=True)


def write_results(outcome: Outcome, path: Path) -> None:
    """The outcome for programs."""
    tasks = [
        {
            "taskId": task.task_id,
            "displayId": task.display_id,
            "taskType": task.job.task_type,
            "work": task.job.label,
            "status": task.status,
            "nodes": task.nodes,
            "attempts": task.attempts,
            "seconds": task.seconds,
            "output": str(task.job.output),
            "problem": task.problem,
        }
        for task in outcome.tasks
    ]
    summary = {"killedNode": outcome.killed, "movedTasks": len(outcome.moved), "failure": outcome.failure}
    path.write_text(json.dumps({**summary, "tasks": tasks}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

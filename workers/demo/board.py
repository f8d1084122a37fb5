"""Live progress: a redrawn board on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers.demo.tracked import Tracked

BAR = 60  # columns, if the terminal has them


class Board:
    """A context manager. `show` draws the current tasks, `say` adds a line that stays."""

    def __init__(self, console: Console, nodes: Sequence[str]) -> None:
        self._console = console
        self._nodes = nodes
        self._dead: set[str] = set()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Add a line that stays, in rich markup."""
        self._console.print(text, soft_wrap=True)

    def bury(self, node: str) -> None:
        """Show a node as killed from now on."""
        self._dead.add(node)

    def show(self, tasks: Sequence[Tracked]) -> None:
        """Draw the tasks. Plain lines show only changes."""
        if self._live:
            self._live.update(self._drawing(tasks), refresh=True)
        elif (line := summary(tasks)) != self._last:
            self._last = line
            self._console.print(line, soft_wrap=True, highlight=False)

    def _drawing(self, tasks: Sequence[Tracked]) -> Group:
        table = Table.grid(padding=(0, 2))
        for node in self._nodes:
            table.add_row(_line(node, "bold"), self._work_of(node, tasks))
        done = sum(task.ended for task in tasks)
        return Group(_line(summary(tasks)), self._bar(done, len(tasks)), table)

    def _bar(self, done: int, total: int) -> Table:
        """A bar in a row of its own: rich ends no line after a bar, so the next text would follow on its line."""
        row = Table.grid()
        row.add_column(width=min(BAR, self._console.width))
        row.add_row(ProgressBar(total=max(total, 1), completed=done))
        return row

    def _work_of(self, node: str, tasks: Sequence[Tracked]) -> Text:
        if node in self._dead:
            return _line("killed", "bold red")
        running = [task for task in tasks if task.status == "PROCESSING" and task.gpu_id == node]
        return _line("   ".join(f"{task.job.label} {task.progress:>3}%" for task in running) or "-")


def _line(text: str, style: str = "") -> Text:
    """One line, cut at the width of the terminal."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def summary(tasks: Sequence[Tracked]) -> str:
    """One line: the number of tasks in each state."""
    counts = Counter(task.status for task in tasks)
    states = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return f"{sum(task.ended for task in tasks)}/{len(tasks)} done: {states}"

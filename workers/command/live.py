"""A status line that is updated at the bottom of a terminal."""

from __future__ import annotations

from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from workers.command.course import Course, Update, end_of, remaining, state_of, waiting
from workers.command.durations import now_ms, span
from workers.command.following import View
from workers.command.output import one_line, write_result
from workers.command.tables import COLOURS

WIDTH = 24
"""Columns of the bar, and the most of a node's name."""


class LiveView(View):
    """The current step on a line that moves; finished steps stay above it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)  # shows texts as they are
        self._course = Course()
        self._stage: tuple[object, ...] = ()
        self._spinner = Spinner("dots")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._live = Live(console=self._console, get_renderable=self._moving, refresh_per_second=4, transient=True)
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, update: Update, course: Course) -> None:
        self._course = course
        if self._stage and course.stage != self._stage and not course.has_ended:
            self._console.print(Text(f"  {state_of(course)}", "dim"))
        self._stage = course.stage

    def end(self, task: dict[str, Any]) -> None:
        style = COLOURS.get(str(task.get("status")), "")
        self._console.print(Text(f"  {end_of(task)}", style))
        write_result(task)

    def _moving(self) -> RenderableType:
        return Constrain(moving(self._course, self._spinner), self._console.width - len("^C "))  # which is echoed


def moving(course: Course, mark: RenderableType, now: float | None = None) -> RenderableType:
    """The current step: place, time and reason while it waits, a bar while it runs."""
    if course.status == "PROCESSING":
        return _running(course, mark)
    if course.has_ended or not course.task:
        return _line(mark, Text("…"))
    since = course.task.get("createdAt") or 0
    waits = Text(span(((now_ms() if now is None else now) - since) / 1000), "dim")
    line = _line(mark, waits, Text(waiting(course)))
    if not course.reason:
        return line
    return Group(line, Text(f"  {one_line(course.reason)}", "dim", no_wrap=True, overflow="ellipsis"))


def _running(course: Course, mark: RenderableType) -> RenderableType:
    attempt = f" ({course.attempt})" if (course.attempt or 1) > 1 else ""
    where = Text(one_line(f"{course.gpu_id or '?'}{attempt}"), no_wrap=True, overflow="ellipsis")
    where.truncate(WIDTH)
    bar = ProgressBar(100, course.progress, width=WIDTH)
    return _line(mark, where, bar, Text(f"{course.progress} %{remaining(course)}"))


def _line(*parts: RenderableType) -> RenderableType:
    made = Table.grid(padding=(0, 1))
    for _ in parts:
        made.add_column(no_wrap=True, overflow="ellipsis")
    made.add_row(*parts)
    return made

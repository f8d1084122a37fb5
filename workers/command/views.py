"""How the course of a task is shown: as JSON, as lines, or as a line with a bar that moves."""

from __future__ import annotations

import os
import sys
from typing import Any

from workers.command.course import Course, Update, end_of, state_of
from workers.command.following import View
from workers.command.output import say, write_json, write_result

STEP = 10
"""Percent of progress between two lines."""


def view_for(*, as_json: bool) -> View:
    """JSON where it is asked for, otherwise what standard error can show."""
    if as_json:
        return JsonView()
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from workers.command.live import LiveView

        return LiveView()
    return LineView()


class JsonView(View):
    """A JSON value on each line of standard output: each message, and at last `end` with the task and its result."""

    def show(self, update: Update, course: Course) -> None:
        if update.kind != "end":
            write_json({"kind": update.kind, "data": update.data})

    def end(self, task: dict[str, Any]) -> None:
        write_json({"kind": "end", "data": task})


class LineView(View):
    """A line on standard error for each step, and the result on standard output."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def show(self, update: Update, course: Course) -> None:
        step = (*course.stage, course.place, course.progress // STEP)
        if step != self._last and not course.has_ended:
            say(state_of(course))
        self._last = step

    def end(self, task: dict[str, Any]) -> None:
        say(end_of(task))
        write_result(task)

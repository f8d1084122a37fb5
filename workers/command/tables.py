"""Lists of tasks and nodes, and one task, as text: 80 columns wide on a terminal, as wide as they need elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from workers.command.durations import about, age, now_ms
from workers.command.output import one_line, printable

Record = Mapping[str, Any]
COLOURS = {
    **dict.fromkeys(("COMPLETED", "ACTIVE", "HEALTHY"), "green"),
    **dict.fromkeys(("OFFLINE", "DEGRADED"), "yellow"),
    **dict.fromkeys(("FAILED", "TIMEOUT", "FAULTY", "UNHEALTHY"), "red"),
    "PROCESSING": "cyan",
}
GAP = 2
"""Blank columns between two."""
UNBOUNDED = 100_000
"""Columns of what is no terminal: nothing is cut there."""


class _Output(Console):
    """Standard output. A pipe that is closed raises BrokenPipeError, as it does elsewhere, and does not exit."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Standard output. It has colours on a terminal only, unless NO_COLOR is set."""
    width = None if sys.stdout.isatty() else UNBOUNDED
    return _Output(highlight=False, markup=False, emoji=False, width=width, soft_wrap=width is not None)


LEAST = 4
"""The least width of a column that is cut."""


class Listing:
    """A table without lines. Where there is no room the columns that `give_way` are cut, the widest first."""

    def __init__(self, *columns: str, give_way: Sequence[str] = ()) -> None:
        self._columns = columns
        self._give_way = [columns.index(name) for name in give_way]
        self._rows: list[list[Text]] = []

    def add(self, *cells: Text) -> None:
        """Add a row."""
        self._rows.append(list(cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for name, width in zip(self._columns, self._widths(options.max_width), strict=True):
            made.add_column(name, no_wrap=True, overflow="ellipsis", width=width)
        for row in self._rows:
            made.add_row(*row)
        yield made

    def _widths(self, room: int) -> list[int]:
        lines = [[cell_len(name) for name in self._columns], *([one.cell_len for one in row] for row in self._rows)]
        widths = [max(column) for column in zip(*lines, strict=True)]
        excess = sum(widths) + GAP * (len(widths) - 1) - room
        while excess > 0 and self._give_way:
            widest = max(self._give_way, key=lambda number: widths[number])
            if widths[widest] <= LEAST:
                break
            widths[widest] -= 1
            excess -= 1
        return widths


def cell(text: object, style: str = "") -> Text:
    """A foreign text, as a cell."""
    return Text(one_line("-" if text is None or text == "" else str(text)), style)


def tasks(rows: Iterable[Record], now: float | None = None) -> Listing:
    """Tasks, one a line."""
    now = now_ms() if now is None else now
    made = Listing("TASK", "TYPE", "STATUS", "NODE", "AGE", "TOOK", "APP", give_way=("APP", "NODE", "TYPE"))
    for row in rows:
        made.add(
            cell(row["taskId"]),
            cell(row["taskType"]),
            status(row),
            cell(row.get("gpuId")),
            cell(age(row.get("createdAt"), now)),
            cell(_took(row, now)),
            cell(row.get("app")),
        )
    return made


def status(row: Record) -> Text:
    """A task's status; how it has ended where that says more."""
    name = str(row["status"])
    reason = row.get("endReason")
    return cell(reason if reason not in {None, name} else name, COLOURS.get(name, ""))


def _took(row: Record, now: float) -> str | None:
    """How long it has run."""
    started = row.get("startedAt")
    return None if not started else about(((row.get("completedAt") or now) - started) / 1000)


def nodes(rows: Iterable[Record], now: float | None = None) -> Listing:
    """Nodes, one a line."""
    made = Listing("NODE", "STATUS", "SLOTS", "TYPES", "CLASS", "BEAT", "DRAIN", give_way=("DRAIN", "TYPES", "NODE"))
    for row in rows:
        made.add(
            cell(row["gpuId"]),
            cell(row["status"], COLOURS.get(str(row["status"]), "")),
            cell(f"{row.get('currentTasks', 0)}/{row.get('maxConcurrentTasks', 0)}"),
            cell(",".join(map(str, row.get("supportedTaskTypes") or ()))),
            cell(row.get("supportedTaskPriority")),
            cell(age(row.get("lastHeartbeat"), now)),
            cell(drain(row), "yellow"),
        )
    return made


def drain(row: Record) -> str | None:
    """Why a node drains, and how many attempts are left on it."""
    if not row.get("draining"):
        return None
    found = row.get("drain") or {}
    return f"{found.get('remaining', '?')} left: {found.get('reason', '')}"


FIELDS: Sequence[tuple[str, str]] = (
    ("type", "taskType"), ("status", "status"), ("ended as", "endReason"), ("message", "errorMessage"),
    ("node", "gpuId"), ("app", "app"), ("user", "userId"), ("group", "groupId"), ("priority", "priority"),
    ("retries", "retryCount"), ("retry of", "retryOf"), ("created", "createdAt"), ("started", "startedAt"),
    ("ended", "completedAt"), ("expires", "expiresAt"), ("deadline", "deadline"), ("payload", "payload"),
    ("result", "result"),
)  # fmt: skip
MOMENTS = frozenset({"createdAt", "startedAt", "completedAt", "expiresAt", "deadline"})


def task(row: Record, waiting: Record | None = None) -> RenderableType:
    """One task, with all fields that have a value."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row("task", printable(str(row["taskId"])))
    for name, key in FIELDS:
        value = row.get(key)
        if value is not None:
            made.add_row(name, printable(moment(value) if key in MOMENTS else str(value)))
    if waiting:
        made.add_row("waits", printable(str(waiting.get("reason"))))
    return made


def moment(ms: float) -> str:
    """A moment in this machine's time zone."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().isoformat(sep=" ", timespec="seconds")

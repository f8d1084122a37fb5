"""The current nodes, queue and events, as `top` shows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers.command import tables
from workers.command.course import Update
from workers.command.output import one_line
from workers.command.tables import COLOURS, GAP, cell

TYPES, EVENTS = 6, 5
"""The most lines of each part; the nodes get what is left of the screen."""
AROUND = 9
"""Lines of headings and gaps."""
BAR = 40


@dataclass
class Fleet:
    """The last reading of each part, if there is one."""

    url: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    nodes: list[Mapping[str, Any]] | None = None
    total_nodes: int = 0
    events: deque[Update] = field(default_factory=lambda: deque(maxlen=EVENTS))
    notes: dict[object, str] = field(default_factory=dict)
    """Why a part is out of date, by what reads it."""

    @property
    def note(self) -> str:
        """Why something is out of date; empty if nothing is."""
        return next(iter(self.notes.values()), "")


def shown(fleet: Fleet, height: int, now: float | None = None) -> RenderableType:
    """The whole screen, `height` lines at most."""
    events = list(fleet.events)  # at once: another thread adds to them
    nodes = fleet.nodes or []
    queues = sorted(fleet.metrics.get("queue_lengths", {}).items(), key=lambda one: -one[1])
    rows = max(1, height - AROUND - max(1, min(len(queues), TYPES)) - len(events))
    parts: list[RenderableType] = [_head(fleet), Text(), _queue(queues, is_read=bool(fleet.metrics)), Text()]
    parts.append(tables.nodes(nodes[:rows], now) if nodes else Text("…" if fleet.nodes is None else "no node", "dim"))
    hidden = fleet.total_nodes - len(nodes[:rows])
    parts.append(Text(f"… {hidden} more" if hidden > 0 else "", "dim"))
    parts += [event(one) for one in reversed(events)]
    return Group(*parts)


def _head(fleet: Fleet) -> RenderableType:
    health = str(fleet.health.get("overall_health", "…"))
    line = Text.assemble(
        cell(health, COLOURS.get(health, "")), "  ", cell(fleet.note or fleet.url, "yellow" if fleet.note else "")
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return Group(line, _counts("nodes", "gpu_status_counts", fleet), _counts("tasks", "task_status_counts", fleet))


def _counts(name: str, key: str, fleet: Fleet) -> Text:
    parts = [Text(f"{name}  ", "dim")]
    for status, number in fleet.metrics.get(key, {}).items():
        parts.append(Text(f"{number} {status}  ", COLOURS.get(status, "") if number else "dim"))
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _queue(queues: list[tuple[str, int]], *, is_read: bool) -> RenderableType:
    """Unfinished tasks by type, the most first."""
    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in ("TYPE", "UNFINISHED", ""):
        made.add_column(name)
    for task_type, number in queues[:TYPES]:
        made.add_row(cell(task_type), cell(number), ProgressBar(max(1, queues[0][1]), number, width=BAR))
    return made if queues else Text("no task waits or runs" if is_read else "…", "dim")


def event(one: Update) -> Text:
    """An event on one line."""
    data = one.data.get("data") or {}
    at = datetime.fromtimestamp((one.data.get("time") or 0) / 1000).astimezone().strftime("%H:%M:%S")
    about = [one.data.get(name) for name in ("taskId", "gpuId", "alertId")]
    said = [data.get("endReason") or data.get("status"), data.get("reason")]
    text = one_line(" ".join(str(part) for part in [at, one.kind, *about, *said] if part))
    return Text(text, "dim", no_wrap=True, overflow="ellipsis")

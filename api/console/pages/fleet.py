"""Fleet: every node as a row, its slots as squares in it, by the types that it supports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.console import marks, timeline
from api.console.page import Asked, Page
from api.console.texts import N_
from infra.db.connection import Connection
from infra.db.nodes import fleet
from infra.db.nodes.fleet import FleetNode, HeldSlot
from workflows.domain.event import EventType

STATUSES = ("ACTIVE", "DRAINING", "OFFLINE", "FAULTY")
"""The states of a node. In their group nodes are listed by them in reverse: those in trouble come first."""


@dataclass(frozen=True)
class Slot:
    """A square: without a task it is free, or closed while its node takes no more."""

    number: int
    task_id: str | None = None
    tenths: int | None = None
    """The attempt's progress, as coarse as it is shown: fewer rows change with each report."""
    stops: bool = False
    is_closed: bool = False


@dataclass(frozen=True)
class Shown:
    """A node as the fleet shows it, without anything that changes with each beat."""

    gpu_id: str
    hostname: str
    model: str | None
    fault_reason: str | None
    rests: bool
    status_since: datetime


@dataclass(frozen=True)
class Row:
    """A node with its first slots, of `count`; `state` names its mark; `takes`: the tasks that it takes at a time."""

    node: Shown
    state: str
    slots: tuple[Slot, ...]
    count: int
    used: int
    takes: int


@dataclass(frozen=True)
class Group:
    """The nodes that support the same types, for the same class."""

    types: tuple[int, ...]
    names: tuple[str, ...]
    is_vip: bool
    rows: list[Row]

    @property
    def slots(self) -> int:
        """The slots of its nodes that take work."""
        return sum(one.takes for one in self.rows if one.state == "ACTIVE")

    @property
    def used(self) -> int:
        """The number of them that tasks hold."""
        return sum(min(one.used, one.takes) for one in self.rows if one.state == "ACTIVE")


async def contents(asked: Asked) -> dict[str, Any]:
    async def read(connection: Connection) -> tuple[list[FleetNode], dict[str, list[HeldSlot]]]:
        return await fleet.nodes(connection), await fleet.held(connection)

    nodes, held = await asked.context.database.run(read)
    nodes_of = [(node, _row(node, held.get(node.gpu_id, []))) for node in nodes[: fleet.MOST]]
    rows = [row for _, row in nodes_of]
    query = asked.query
    status, model, text = query.get("status", ""), query.get("model", ""), query.get("q", "").strip().lower()
    shown = [
        (node, row)
        for node, row in nodes_of
        if (not status or row.state == status)
        and (not model or row.node.model == model)
        and (not text or text in f"{row.node.gpu_id} {row.node.hostname}".lower())
    ]
    return {
        "groups": _groups(asked, shown),
        "all": len(rows),
        "shown": len(shown),
        "more": len(nodes) > fleet.MOST,
        "counts": Counter(row.state for row in rows),
        "models": sorted({row.node.model for row in rows if row.node.model}),
        "statuses": STATUSES,
        "status": status,
        "model": model,
        "text": query.get("q", ""),
        "command": f"gpu-orchestrator node --gpu-id gpu_001 --api {asked.context.settings.base_url}"
        " --key-file node_key --handler 2=my.module:run",
    }


def _row(node: FleetNode, held: list[HeldSlot]) -> Row:
    by_number = {one.slot: one for one in held}
    count = max([node.max_concurrent_tasks, *by_number])
    state = marks.of_node(node.status, draining=node.draining)
    free = node.takes - len(held) if state == "ACTIVE" and not node.rests else 0
    slots = tuple(_slots([by_number.get(number) for number in range(1, min(count, timeline.MOST) + 1)], free))
    shown = Shown(node.gpu_id, node.hostname, node.model, node.fault_reason, node.rests, node.status_since)
    return Row(shown, state, slots, count, len(held), node.takes)


def _slots(held: list[HeldSlot | None], free: int) -> Iterator[Slot]:
    """The squares, of which the first `free` without a task are free."""
    for number, one in enumerate(held, 1):
        if one is not None:
            yield Slot(number, one.task_id, None if one.progress is None else one.progress // 10, one.stops)
        else:
            yield Slot(number, is_closed=free <= 0)
            free -= 1


def _groups(asked: Asked, nodes: list[tuple[FleetNode, Row]]) -> list[Group]:
    groups: dict[tuple[tuple[int, ...], bool], list[Row]] = {}
    for node, row in nodes:
        groups.setdefault((tuple(sorted(node.task_types)), node.priority_queue == "VIP"), []).append(row)
    known = asked.context.settings.task_types
    return [
        Group(
            types,
            tuple(known[one].name or "" if one in known else "" for one in types),
            is_vip,
            sorted(found, key=lambda row: (-STATUSES.index(row.state), row.node.gpu_id)),
        )
        for (types, is_vip), found in sorted(groups.items())
    ]


PAGE = Page(
    "fleet",
    "/fleet",
    N_("Fleet"),
    contents,
    key="f",
    every_s=3.0,
    events=frozenset(EventType) - {EventType.TASK_CREATED, EventType.GROUP_ENDED},
)

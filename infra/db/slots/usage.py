"""The fleet's slots by what they do now, and its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from infra.db.connection import Connection
from infra.db.slots import eligibility

STATES = ("busy", "free", "resting", "draining", "offline", "faulty")
"""`busy` if an attempt holds the slot, otherwise the state of its node. Only `free` takes work."""
_NODES = f"""
    SELECT g.gpu_id, g.status, g.task_types, g.max_concurrent_tasks AS slots, {eligibility.slots("g")} AS takes,
           {eligibility.used("g")} AS used, {eligibility.state("g")} AS rest
      FROM gpus g WHERE g.gone_at IS NULL
     ORDER BY g.gpu_id
    """


@dataclass(frozen=True)
class NodeSlots:
    """A registered node: its slots, those for which it takes tasks, those that tasks hold, and its state.

    Tasks may hold more than it takes: it has been registered with fewer slots since, or it runs probes.
    """

    gpu_id: str
    status: str
    task_types: list[int]
    slots: int
    takes: int
    used: int
    rest: str

    @property
    def busy(self) -> int:
        """The slots that tasks hold, of those that it has."""
        return min(self.used, self.slots)

    @property
    def free(self) -> int:
        """The slots that would take a task if the node does."""
        return max(self.takes - self.used, 0)

    @property
    def works(self) -> bool:
        """Whether it takes work, now or after a rest (`eligibility.works`)."""
        return self.rest in ("free", "resting")


class Slots(NamedTuple):
    """Slots of the nodes that take work, one of a node that runs probes; and those of them that are held."""

    slots: int
    used: int


async def nodes(connection: Connection) -> list[NodeSlots]:
    """Every registered node; the cost grows with the fleet, not with its history."""
    return await connection.all(NodeSlots, _NODES)


def by_state(fleet: list[NodeSlots]) -> dict[str, int]:
    """The number of slots in each of `STATES`."""
    counts = dict.fromkeys(STATES, 0)
    for node in fleet:
        free = node.free if node.rest == "free" else 0  # one that is on probation takes one task at a time
        counts["busy"] += node.busy
        counts["free"] += free
        counts["resting" if node.rest == "free" else node.rest] += node.slots - node.busy - free
    return counts


def by_type(fleet: list[NodeSlots]) -> dict[int, Slots]:
    """The slots that each type can use. A slot of a node for several types counts for each."""
    of_type: dict[int, list[NodeSlots]] = {}
    for node in fleet:
        for task_type in node.task_types:
            of_type.setdefault(task_type, []).append(node)
    return {task_type: of_fleet(nodes) for task_type, nodes in of_type.items()}


def of_fleet(fleet: list[NodeSlots]) -> Slots:
    """The slots of these nodes together."""
    working = [node for node in fleet if node.works]
    return Slots(sum(node.takes for node in working), sum(min(node.used, node.takes) for node in working))

"""The plan of a run; all random choices follow from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.faults.proxy import Chances

HTTP = Chances(delay=0.02, reset=0.02, drop=0.02)
POSTGRES = Chances(delay=0.005, reset=0.002, drop=0.004, longest_delay_s=0.3)
SHORTEST_MS, LONGEST_MS = 50, 300
PAUSE_S = (1.0, 5.0)
KILLS = 0.7
"""The share of kills among the faults; the others are pauses."""


@dataclass(frozen=True)
class Plan:
    """The load lasts `seconds`, in which `tasks` are created; a fault comes every `every_s` seconds on the average."""

    seed: int
    seconds: float
    tasks: int
    every_s: float = 2.0
    drain_s: float = 90.0
    bad_company: bool = True  # nodes that go wrong, and a careless user

    def chance(self, purpose: str) -> Random:
        """A sequence of its own for each purpose: the others' use of theirs does not disturb it."""
        return Random(f"{self.seed} {purpose}")


@dataclass(frozen=True)
class Fault:
    """A kill of one part, or a pause of `pause_s`, at `at_s` seconds from the beginning of the load."""

    at_s: float
    part: str
    pause_s: float | None


def faults(plan: Plan, parts: list[str]) -> list[Fault]:
    """The whole schedule. Each part gets its turn before one gets its second."""
    chance = plan.chance("nemesis")
    found: list[Fault] = []
    order: list[str] = []
    at_s = chance.uniform(0.5, plan.every_s)
    while at_s < plan.seconds:
        order = order or chance.sample(parts, len(parts))
        pause_s = None if chance.random() < KILLS else chance.uniform(*PAUSE_S)
        found.append(Fault(round(at_s, 3), order.pop(), pause_s and round(pause_s, 3)))
        at_s += chance.uniform(0.5, 1.5) * plan.every_s
    return found

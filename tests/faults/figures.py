"""The figures of a run, as one line for programs and as a table for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.faults.verdict import Verdict

IN_FLIGHT = "nothing is in flight"
TWICE = "no attempt was executed twice"


@dataclass(frozen=True)
class Figures:
    """`violations` are those that the checker program found, all of them; `complaints` say what is wrong in words."""

    seed: int
    accepted: int
    lost: int
    executed_twice: int
    slots_leaked: int
    stuck: int
    violations: int
    healthy_nodes_faulty: int
    bad_nodes_unknown: int
    untrue_ends: int
    kills: int
    pauses: int
    drains: int
    network_faults: dict[str, int]
    answers: dict[str, int]
    longest_recovery_s: float
    drained_s: float
    bad_nodes: dict[str, str]
    healthy_nodes_rested: dict[str, int]
    careless: dict[str, int]
    cancels: dict[str, int]
    refused_after_stop: dict[str, int]
    honest_s_before: str
    honest_s_during: str
    complaints: list[str]

    @classmethod
    def of(
        cls,
        *,
        lost: list[str],
        untrue: list[str],
        wrong: list[str],
        verdict: Verdict,
        verified: dict[str, Any],
        network: dict[str, int],
        longest_recovery_s: float,
        drained_s: float,
        **counts: Any,
    ) -> Figures:
        """Figures from what the parts of the harness saw."""
        checks = {check["name"]: check for check in verified["checks"]}
        broken = [f"{name}: {', '.join(check['examples'])}" for name, check in checks.items() if check["violations"]]
        in_flight = [one for name, check in checks.items() if name.startswith(IN_FLIGHT) for one in check["examples"]]
        return cls(
            lost=len(lost),
            executed_twice=checks[TWICE]["violations"] if TWICE in checks else -1,
            slots_leaked=sum("is open" in example for example in in_flight),
            violations=verified["violations"],
            healthy_nodes_faulty=len(verdict.healthy_faulty),
            bad_nodes_unknown=len(verdict.unknown),
            untrue_ends=len(untrue),
            network_faults=network,
            longest_recovery_s=round(longest_recovery_s, 2),
            drained_s=round(drained_s, 2),
            bad_nodes={one.gpu_id: str(one) for one in verdict.found},
            healthy_nodes_rested=verdict.healthy_rested,
            honest_s_before=verdict.before,
            honest_s_during=verdict.during,
            complaints=[
                *lost[:10],
                *untrue[:10],
                *wrong[:10],
                *broken,
                *verified["unread"],
                *(f"{name} was FAULTY, and is healthy" for name in verdict.healthy_faulty),
                *(f"no alert names {name}" for name in verdict.unknown),
            ],
            **counts,
        )

    @property
    def sound(self) -> bool:
        """Whether everything that was promised was kept."""
        counts = (self.lost, self.executed_twice, self.slots_leaked, self.stuck, self.violations)
        return not any(counts) and not self.complaints

    def as_json(self) -> str:
        """One object on one line."""
        return json.dumps({**asdict(self), "sound": self.sound}, ensure_ascii=False)

    def as_table(self) -> str:
        """A line per figure, then what is wrong."""
        named = {name: value for name, value in asdict(self).items() if name != "complaints"}
        lines = [f"{name.replace('_', ' '):<18} {_words(value)}" for name, value in named.items()]
        return "\n".join([*lines, *(f"WRONG: {complaint}" for complaint in self.complaints)])


def _words(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "; ".join(f"{name}: {n}" for name, n in sorted(value.items())) or "none"
    return f"{value:,}"

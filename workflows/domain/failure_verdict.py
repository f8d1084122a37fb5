"""A verdict on failures of one signature and type: whose they are, as far as the evidence goes (docs/adr/0026).

It is for people: what follows for a node is decided by `fault_attribution.is_outlier` when a task ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from workflows.domain.attempt import Outcome
from workflows.domain.fault_attribution import Record, is_outlier

NOTHING = Record(0, 0)
FEW = 3
"""Fewer failures say nothing."""
RARE = 4
"""Failures are rare if at most one attempt in this many fails."""


class Verdict(StrEnum):
    """Whose failures they are."""

    NODE = "NODE"  # one node fails what its peers complete
    TASK = "TASK"  # the same tasks fail wherever they run
    WORK = "WORK"  # no node completes the type
    LIMIT = "LIMIT"  # the limit is short for the type
    ALONE = "ALONE"  # one node alone serves the type: nothing to compare with
    CHANCE = "CHANCE"  # no node stands out, and nodes complete most of the type
    UNKNOWN = "UNKNOWN"  # too few to say


@dataclass(frozen=True)
class Evidence:
    """What is known of failures alike of one type.

    `by_node`: failures of each node; `tasks`: distinct ones, of which `alike` failed so on several nodes and
    `done_elsewhere` were completed by another node; `attributed`: failures that count against their node.
    `records`: how the last attempts of the type ended, by node, on these nodes and on peers.
    """

    outcome: Outcome
    by_node: Mapping[str, int]
    tasks: int
    alike: int
    done_elsewhere: int
    attributed: int
    records: Mapping[str, Record]

    @property
    def failures(self) -> int:
        """All of them."""
        return sum(self.by_node.values())

    def others(self, gpu_id: str) -> Record:
        """How attempts of the type ended on every other node."""
        rest = [record for node, record in self.records.items() if node != gpu_id]
        return Record(sum(one.ended for one in rest), sum(one.failed for one in rest))


@dataclass(frozen=True)
class Judged:
    """A verdict. Of NODE and ALONE: `gpu_id`, its record, and that of the others; of CHANCE: `others`, all nodes'."""

    verdict: Verdict
    gpu_id: str | None = None
    own: Record = NOTHING
    others: Record = NOTHING


def judge(evidence: Evidence) -> Judged:
    """The verdict that the evidence allows. A task that fails on several nodes accuses none of them."""
    if evidence.failures < FEW:
        return Judged(Verdict.UNKNOWN)
    if evidence.outcome is Outcome.TIMED_OUT and evidence.attributed * 2 < evidence.failures and not evidence.alike:
        return Judged(Verdict.LIMIT)
    if all(record.failed == record.ended for record in evidence.records.values()) and len(evidence.records) > 1:
        return Judged(Verdict.WORK)
    if evidence.alike * 2 >= evidence.tasks:
        return Judged(Verdict.TASK)
    return _of_node(evidence) or _of_chance(evidence) or Judged(Verdict.UNKNOWN)


def _of_chance(evidence: Evidence) -> Judged | None:
    """No node stands out, and most of the failed tasks were completed elsewhere, or most attempts succeed."""
    total = evidence.others("")
    rare = len(evidence.by_node) > 1 and total.failed * RARE <= total.ended
    if rare or evidence.done_elsewhere * 2 >= evidence.tasks:
        return Judged(Verdict.CHANCE, others=total)
    return None


def _of_node(evidence: Evidence) -> Judged | None:
    """The node with the most failures, if its peers complete what it fails, or if it has none."""
    gpu_id = max(evidence.by_node, key=lambda one: evidence.by_node[one])
    own, others = evidence.records.get(gpu_id, NOTHING), evidence.others(gpu_id)
    if own.ended and not others.ended:
        return Judged(Verdict.ALONE, gpu_id, own, others)
    if _stands_out(own, others):
        return Judged(Verdict.NODE, gpu_id, own, others)
    return None


def _stands_out(own: Record, others: Record) -> bool:
    """An outlier as containment sees it, or most of a few attempts against hardly any of the others'."""
    kind = (0, "")
    return is_outlier({kind: own}, {kind: others}) or (
        own.failed >= FEW and own.failed * 2 > own.ended and others.failed * 10 <= others.ended
    )

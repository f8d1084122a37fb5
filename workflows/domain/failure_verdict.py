"""A verdict on failures of one signature and type: whose they are, as far as the evidence goes (docs/adr/0026).

It is for people: what follows for a node is decided by `Comparison.is_outlier` when a task ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from workflows.domain.attempt import Outcome
from workflows.domain.fault_attribution import Comparison, Record

NOTHING = Record(0, 0)
FEW = 3
"""Fewer failures say nothing."""
RARE = 4
"""Failures are rare if at most one attempt in this many fails."""


class FailureVerdict(StrEnum):
    """The cause that failures are attributed to."""

    NODE = "NODE"  # one node fails what its peers complete
    TASK = "TASK"  # the same tasks fail wherever they run
    WORK = "WORK"  # no node completes the type
    LIMIT = "LIMIT"  # the limit is short for the type
    ALONE = "ALONE"  # only one node serves the type: nothing to compare with
    CHANCE = "CHANCE"  # no node stands out, and most of the tasks were completed elsewhere, or most attempts succeed
    UNKNOWN = "UNKNOWN"  # too few to say


def suspect(by_node: Mapping[str, int]) -> str:
    """The node with the most failures, which is compared with its peers."""
    return max(by_node, key=lambda one: by_node[one])


@dataclass(frozen=True)
class Evidence:
    """The evidence on like failures of one type.

    `by_node`: failures of each node; `tasks`: distinct ones, of which `alike` failed so on several nodes and
    `done_elsewhere` were completed by another node; `attributed`: failures that count against their node.
    `compared`: the last tasks of the type on the `suspect` and on its peers.
    """

    outcome: Outcome
    by_node: Mapping[str, int]
    tasks: int
    alike: int
    done_elsewhere: int
    attributed: int
    compared: Comparison

    @property
    def failures(self) -> int:
        """The failures on all nodes."""
        return sum(self.by_node.values())

    @property
    def own(self) -> Record:
        """How all of these tasks ended on the suspect."""
        return _all(self.compared.own.values())

    @property
    def others(self) -> Record:
        """How they ended on its peers."""
        return _all(self.compared.peers.values())


def _all(records: Collection[Record]) -> Record:
    lost = sum(one.lost for one in records)
    return Record(sum(one.ended for one in records) + lost, sum(one.failed for one in records) + lost)


@dataclass(frozen=True)
class Judged:
    """A verdict and its evidence: for NODE and ALONE the record of `gpu_id` and that of the others, for CHANCE the
    record of all nodes in `others`."""

    verdict: FailureVerdict
    gpu_id: str | None = None
    own: Record = NOTHING
    others: Record = NOTHING


def judge(evidence: Evidence) -> Judged:
    """The verdict that the evidence allows. A task that fails on several nodes accuses none of them."""
    if evidence.failures < FEW:
        return Judged(FailureVerdict.UNKNOWN)
    if evidence.outcome is Outcome.TIMED_OUT and evidence.attributed * 2 < evidence.failures and not evidence.alike:
        return Judged(FailureVerdict.LIMIT)
    own, others = evidence.own, evidence.others
    if own.failed == own.ended and 0 < others.failed == others.ended:
        return Judged(FailureVerdict.WORK)
    if evidence.alike * 2 >= evidence.tasks:
        return Judged(FailureVerdict.TASK)
    return _of_node(evidence) or _of_chance(evidence) or Judged(FailureVerdict.UNKNOWN)


def _of_chance(evidence: Evidence) -> Judged | None:
    """No node stands out, and most of the failed tasks were completed elsewhere, or most attempts succeed."""
    total = Record(evidence.own.ended + evidence.others.ended, evidence.own.failed + evidence.others.failed)
    rare = len(evidence.by_node) > 1 and total.failed * RARE <= total.ended
    if rare or evidence.done_elsewhere * 2 >= evidence.tasks:
        return Judged(FailureVerdict.CHANCE, others=total)
    return None


def _of_node(evidence: Evidence) -> Judged | None:
    """The suspect, if its peers complete what it fails, or if it has none."""
    own, others = evidence.own, evidence.others
    if own.ended and not others.ended:
        return Judged(FailureVerdict.ALONE, suspect(evidence.by_node), own, others)
    if evidence.compared.is_outlier or _fails_most(own, others):
        return Judged(FailureVerdict.NODE, suspect(evidence.by_node), own, others)
    return None


def _fails_most(own: Record, others: Record) -> bool:
    """Whether it has failed `FEW` or more, over half of its own, and its peers at most a tenth of theirs."""
    return own.failed >= FEW and own.failed * 2 > own.ended and others.failed * 10 <= others.ended

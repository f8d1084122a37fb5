"""Fault attribution: whose failure a failed attempt is, and when a node is known to be broken (docs/adr/0026).

`attempt.RULES` says what follows from each outcome, `node_record` what follows from several in a row. Here is what
only a comparison shows. Two failures of a task are *alike* where both passed their deadline, or where both nodes
gave the same reason.

- A failure does not count against the node if another node has failed the task alike before. Nor does a passed
  deadline if the timeout is short for the type (`has_room`).
- A poison task has failed alike on `POISON_NODES` distinct nodes: what it had counted against its first node
  is taken back, and it gets no retry beyond `PROMISED_RETRIES`.
- A node that fails what its peers complete, so often that it is no chance, is broken: see `is_outlier`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import comb, exp, lgamma

from workflows.domain.attempt import Outcome
from workflows.domain.task import USUAL_DURATION_S

POISON_NODES = 3
"""Distinct nodes on which a poison task has failed alike."""
PROMISED_RETRIES = 3
"""Retries that a task gets even if it is poison, within its `maxRetries` (DESIGN, `MAX_RETRIES`)."""
ROOM = 3.0
"""A limit is short where it is less than this many times the usual duration of the type."""

RECENT = 20
"""The last attempts of a node that are compared, since it last registered or was recovered."""
RECENT_OF_PEER = 50
PEERS = 20
"""A node is compared with at most this many others that share a task type with it."""
OUTLIER_FAILURES = 4
"""Fewer tasks that others completed say nothing about a node."""
UNLIKELY = 1e-5
"""A node is an outlier if one like its peers would fail this much with no more than this probability."""
FAILED_BEFORE, COMPLETED_BEFORE = 0.1, 2.0
"""The prior for the work of a flow before its first attempt, counted in attempts: most of it completes, and some fails
now and then on any node."""

_IDS = re.compile(
    r"0x[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\b[a-z]+_(?=[a-z]*[0-9])[0-9a-f]{6,}\b|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b",
    re.ASCII | re.IGNORECASE,
)
_NUMBERS = re.compile(
    r"((?:code|errno|error|signal|status)[ :=]{1,3}[0-9]+)|[0-9]+(?:\.[0-9]+)*", re.ASCII | re.IGNORECASE
)

COMPARED_ENDS = 300
"""Characters that are compared at the beginning and at the end of a long reason."""

Way = tuple[Outcome, str]
"""The key that alike failures share."""


@lru_cache(maxsize=2048)
def signature(reason: str) -> str:
    """A reason without what differs between runs: ids, and numbers but those of errors."""
    if len(reason) > 2 * COMPARED_ENDS:
        reason = f"{reason[:COMPARED_ENDS]} … {reason[-COMPARED_ENDS:]}"
    return " ".join(_NUMBERS.sub(lambda found: found[1] or "#", _IDS.sub("#", reason)).split())


@dataclass(frozen=True)
class Failure:
    """An attempt that failed: where, how, and what the node said."""

    gpu_id: str
    outcome: Outcome
    reason: str | None

    @property
    def way(self) -> Way:
        """The outcome, and the signature of its reason. All passed deadlines are alike."""
        return self.outcome, "" if self.outcome is Outcome.TIMED_OUT else signature(self.reason or "")


Kind = tuple[int, str]
"""Work that is compared with its like: the task type and the flow."""


@dataclass(frozen=True)
class Record:
    """Counts of the last tasks of one kind on a node or on several: those that ended there, and those that failed there
    and were completed by another node. `lost`: further tasks, which have failed for good; they accuse no node."""

    ended: int
    failed: int
    lost: int = 0


@dataclass(frozen=True)
class Comparison:
    """A node's last tasks and those of its peers, by kind."""

    own: Mapping[Kind, Record]
    peers: Mapping[Kind, Record]

    def of_type(self, task_type: int) -> Comparison:
        """The tasks of one type."""
        own, peers = (
            {kind: one for kind, one in some.items() if kind[0] == task_type} for some in (self.own, self.peers)
        )
        return Comparison(own, peers)

    @property
    def is_outlier(self) -> bool:
        """Whether the node is one, as `is_outlier` says."""
        return is_outlier(self.own, self.peers)


def failed_alike_on(earlier: Iterable[Failure], last: Failure) -> set[str]:
    """The nodes on which a task failed as it did at last, that one included."""
    return {one.gpu_id for one in earlier if one.way == last.way} | {last.gpu_id}


def is_nodes_failure(earlier: Iterable[Failure], last: Failure) -> bool:
    """Whether a failure counts against its node: no other node has failed the task alike."""
    return failed_alike_on(earlier, last) == {last.gpu_id}


def has_room(timeout_ms: int, usual_s: float | None) -> bool:
    """Whether a task's own limit leaves room for the usual work of its type.

    If it does not, a passed deadline is nobody's failure. `usual_s` is the median duration of the type's last tasks;
    None if none has completed.
    """
    return timeout_ms >= ROOM * 1000 * (USUAL_DURATION_S if usual_s is None else usual_s)


def is_outlier(own: Mapping[Kind, Record], peers: Mapping[Kind, Record]) -> bool:
    """Whether a node fails what its peers complete, far more than they fail work of the same kinds.

    Only kinds count of which the node has failed something: so work that fails now and then on every node accuses
    none, however much of it a node happens to get. All kinds count together, and each by itself.
    """
    kinds = {kind: record for kind, record in own.items() if record.failed}
    chances = {kind: _chances(record.ended, peers.get(kind, Record(0, 0))) for kind, record in kinds.items()}
    together = _is_unlikely(sum(one.failed for one in kinds.values()), reduce(_sums, chances.values(), [1.0]), tests=1)
    return together or any(_is_unlikely(kinds[kind].failed, chances[kind], tests=len(kinds)) for kind in kinds)


def _is_unlikely(failed: int, chances: Sequence[float], tests: int) -> bool:
    """Whether `failed` or more failures are too many for chance; `tests` counts are tested at once."""
    return failed >= OUTLIER_FAILURES and sum(chances[failed:]) * tests <= UNLIKELY


def _chances(ended: int, peers: Record) -> list[float]:
    """The chance of 0, 1, … `ended` failures of a node that is like its peers (beta-binomial)."""
    a, b = FAILED_BEFORE + peers.failed, COMPLETED_BEFORE + peers.ended - peers.failed
    return [comb(ended, k) * exp(_log_beta(a + k, b + ended - k) - _log_beta(a, b)) for k in range(ended + 1)]


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _sums(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """The chances of each sum of two independent counts."""
    sums = [0.0] * (len(one) + len(other) - 1)
    for i, p in enumerate(one):
        for j, q in enumerate(other):
            sums[i + j] += p * q
    return sums

"""Containment: whose fault a failed attempt is, and when a task or a node has failed enough (docs/adr/0008).

A *failure* is an attempt that FAILED or TIMED_OUT. Two failures of a task are *alike* where both passed
their deadline, or where both nodes gave the same reason.

- The task's fault: another node has failed the task alike before. It does not count against the node.
- A poison task has failed alike on `POISON_NODES` distinct nodes: what it had counted against its first node
  is taken back, and beyond `PROMISED_RETRIES` it gets no retry any more.
- A node that fails what others complete is an outlier: see `is_outlier`.

In doubt a failure counts against the node: `gpu.TASK_FAILURES_TO_FAULTY` of these in a row make it FAULTY.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

from workflows.domain.attempt import Outcome

POISON_NODES = 3
"""Failed alike on so many distinct nodes a task is poison."""
PROMISED_RETRIES = 3
"""Poison or not, a task has the retries that everybody expects (DESIGN, `MAX_RETRIES`); those beyond are for luck."""

RECENT = 10
"""So many of a node's last attempts are looked at, since it was registered anew or recovered."""
OUTLIER_FAILURES = 3
"""Fewer tasks that others completed say nothing about a node."""
UNLIKELY = 0.001
"""A node that would fail as often as this by mere chance, were it like its peers, is not like them."""
USUAL_SHARE = 0.02
"""What nodes without a record, or with a clean one, are taken to fail."""

_CHANGING = re.compile(r"0x[0-9a-f]+|\d{4,}", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """An attempt that failed: where, how, and what the node said."""

    gpu_id: str
    outcome: Outcome
    reason: str | None

    @property
    def way(self) -> tuple[Outcome, str]:
        """What alike failures share: the reason without addresses and long numbers, which differ from run to run."""
        if self.outcome is Outcome.TIMED_OUT:
            return self.outcome, ""
        return self.outcome, " ".join(_CHANGING.sub("#", self.reason or "").split())


@dataclass(frozen=True)
class Record:
    """Of a node's last attempts: how many ended by themselves, and how many failed on what another completed."""

    ended: int
    failed: int


def failed_alike_on(earlier: Iterable[Failure], last: Failure) -> set[str]:
    """The nodes on which a task failed as it did at last, that one included."""
    return {one.gpu_id for one in earlier if one.way == last.way} | {last.gpu_id}


def is_nodes_fault(earlier: Iterable[Failure], last: Failure) -> bool:
    """Whether a failure counts against its node: no other node has failed the task alike."""
    return failed_alike_on(earlier, last) == {last.gpu_id}


def is_outlier(own: Record, peers: Sequence[Record]) -> bool:
    """Whether a node fails what others complete, far more often than its peers do.

    The measure is the median share of the peers, so that neither a few broken ones nor work that fails
    now and then everywhere hides or accuses a node.
    """
    share = median([one.failed / one.ended for one in peers if one.ended] or [0.0])
    chance = _at_least(own.failed, own.ended, max(share, USUAL_SHARE))
    return own.failed >= OUTLIER_FAILURES and chance <= UNLIKELY


def _at_least(count: int, of: int, share: float) -> float:
    """The chance of `count` failures or more in `of` attempts, each of which fails with the chance `share`."""
    return sum(comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count, of + 1))

"""Failures of the last day: by what they say, on which nodes, and whose they are."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from api.console.page import Asked, Page
from api.console.texts import N_
from api.schemas.operations import MAX_IDS
from infra.db.attempts import comparison, recent_failures
from infra.db.attempts.recent_failures import MOST, FailedAttempt
from infra.db.nodes import queries as node_queries
from infra.json.off_loop import off_loop
from workflows.domain import failure_verdict
from workflows.domain.attempt import Outcome
from workflows.domain.event import EventType
from workflows.domain.failure_verdict import FEW, Evidence, FailureVerdict, Judged, suspect
from workflows.domain.fault_attribution import Comparison
from workflows.domain.task import TaskStatus

MOST_SHOWN = 20
"""Signatures that are shown."""
MOST_NODES = 12
"""Columns of a matrix."""
MOST_NAMED = 3
"""Nodes that are named first: those with the most failures."""
MOST_TYPES = 10
"""Rows of a matrix: the types with the most failures."""
MOST_LOST = 100
"""Lost tasks of a row and node that are named."""
LONGEST = 300
"""Characters of a reason that are shown."""
LOST = (TaskStatus.FAILED, TaskStatus.TIMEOUT)

Failures = list[FailedAttempt]
"""The latest first."""


@dataclass(frozen=True)
class OfType:
    """The failures of one signature and type: a row of the matrix, with its verdict."""

    outcome: str
    signature: str
    task_type: int
    by_node: dict[str, int]
    judged: Judged
    lost_ids: list[str]
    are_all: bool
    """Whether the lost tasks are all in `lost_ids`."""
    task_id: str

    @property
    def id(self) -> str:
        """The id of the row's element, which no other row and no verdict on another node shares."""
        return _id("r", self.outcome, self.signature, str(self.task_type), self.judged.gpu_id or "")

    def verdict_on(self, gpu_id: str) -> FailureVerdict | None:
        """The verdict, unless it is about another node."""
        return self.judged.verdict if self.judged.gpu_id in (None, gpu_id) else None


@dataclass
class Signature:
    """Failures alike, of all types."""

    outcome: str
    text: str
    reason: str | None
    last_at: datetime
    failures: int
    types: list[OfType]

    @property
    def id(self) -> str:
        return _id("s", self.outcome, self.text)

    @property
    def nodes(self) -> list[str]:
        """The nodes with the most failures."""
        total: dict[str, int] = defaultdict(int)
        for row in self.types:
            for gpu_id, n in row.by_node.items():
                total[gpu_id] += n
        return sorted(total, key=lambda one: (-total[one], one))[:MOST_NODES]


class MostFailures(NamedTuple):
    """A node with its failures, and the verdict on most of them."""

    gpu_id: str
    failures: int
    verdict: FailureVerdict | None


def _id(kind: str, *parts: str) -> str:
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


async def contents(asked: Asked) -> dict[str, Any]:
    database = asked.context.database
    found = await database.single(recent_failures.read)
    alike = await _alike(found)
    shown = alike[:MOST_SHOWN]
    by_type = [_largest(one, lambda one: one.task_type)[:MOST_TYPES] for one in shown]
    suspects = {suspect(_by_node(one)) for types in by_type for one in types if len(one) >= FEW}
    compared = await database.single(lambda c: comparison.with_peers(c, suspects)) if suspects else {}
    signatures = [_signature(*one, compared) for one in zip(shown, by_type, strict=True)]
    judged = {row.judged.gpu_id for one in signatures for row in one.types if row.judged.gpu_id is not None}
    states = await database.single(lambda c: node_queries.states(c, judged)) if judged else {}
    return {
        "signatures": signatures,
        "most": _most(found, [row for one in signatures for row in one.types]),
        "state_of": {gpu_id: states.get(gpu_id, "GONE") for gpu_id in judged},
        "failures": len(found),
        "is_cut": len(found) >= MOST,
        "left_out": len(alike) - len(shown),
    }


async def _alike(failures: Failures) -> list[Failures]:
    """The failures alike, the largest groups first. It is found in a thread, since nodes may give long reasons."""
    size = sum(len(one.reason or "") for one in failures)
    return await off_loop.run(size, lambda: _largest(failures, lambda one: one.way))


def _largest(failures: Failures, key: Callable[[FailedAttempt], Hashable]) -> list[Failures]:
    """The failures by a key, the groups with the most failures first."""
    groups: dict[Hashable, Failures] = defaultdict(list)
    for one in failures:
        groups[key(one)].append(one)
    return sorted(groups.values(), key=len, reverse=True)


def _by_node(failures: Failures) -> dict[str, int]:
    return Counter(one.gpu_id for one in failures)


def _most(failures: Failures, rows: list[OfType]) -> list[MostFailures]:
    """The nodes that fail most."""
    total = _by_node(failures)
    found = []
    for gpu_id in sorted(total, key=lambda one: (-total[one], one))[:MOST_NAMED]:
        largest = max(rows, key=lambda row: row.by_node.get(gpu_id, 0))
        verdict = largest.verdict_on(gpu_id) if gpu_id in largest.by_node else None
        found.append(MostFailures(gpu_id, total[gpu_id], verdict))
    return found


def _signature(alike: Failures, by_type: list[Failures], compared: Mapping[str, Comparison]) -> Signature:
    last = alike[0]
    reason = None if last.reason is None else last.reason[:LONGEST]
    rows = [_of_type(one, compared) for one in sorted(by_type, key=lambda one: one[0].task_type)]
    return Signature(last.outcome, last.way[1], reason, last.closed_at, len(alike), rows)


def _of_type(failures: Failures, compared: Mapping[str, Comparison]) -> OfType:
    last = failures[0]
    evidence = _evidence(failures, compared)
    lost: dict[str, set[str]] = defaultdict(set)
    for one in failures:
        if one.status in LOST:
            lost[one.gpu_id].add(one.task_id)
    named = sorted({task_id for some in lost.values() for task_id in sorted(some)[:MOST_LOST]})
    return OfType(
        last.outcome,
        last.way[1],
        last.task_type,
        dict(evidence.by_node),
        failure_verdict.judge(evidence),
        named[:MAX_IDS],
        len(named) <= MAX_IDS and all(len(some) <= MOST_LOST for some in lost.values()),
        last.task_id,
    )


def _evidence(failures: Failures, compared: Mapping[str, Comparison]) -> Evidence:
    """The evidence on like failures of one type. A task may have failed on several nodes."""
    by_node = _by_node(failures)
    nodes: dict[str, set[str]] = defaultdict(set)
    for one in failures:
        nodes[one.task_id].add(one.gpu_id)
    done = {one.task_id for one in failures if one.status == TaskStatus.COMPLETED and one.ended_on != one.gpu_id}
    return Evidence(
        Outcome(failures[0].outcome),
        by_node,
        tasks=len(nodes),
        alike=sum(len(some) > 1 for some in nodes.values()),
        done_elsewhere=len(done),
        attributed=sum(one.attributed for one in failures),
        compared=compared.get(suspect(by_node), Comparison({}, {})).of_type(failures[0].task_type),
    )


PAGE = Page(
    "failures",
    "/failures",
    N_("Failures"),
    contents,
    key="e",
    events=frozenset({EventType.NODE_FAULTY, EventType.NODE_RECOVERED}),
    every_s=5.0,
)

"""Failures of the last day: by what they say, on which nodes, and whose they are."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from api.console.page import OPERATORS, Asked, Page
from api.console.texts import N_
from api.schemas.operations import MAX_IDS
from infra.db.attempts import recent_failures
from infra.db.attempts.recent_failures import MOST, FailureGroup
from infra.db.nodes import queries as node_queries
from workflows.domain import failure_verdict
from workflows.domain.attempt import Outcome
from workflows.domain.event import EventType
from workflows.domain.failure_verdict import Evidence, Judged, Verdict
from workflows.domain.fault_attribution import Record

MOST_SHOWN = 20
"""Signatures that are shown."""
MOST_NODES = 12
"""Columns of a matrix."""
MOST_NAMED = 3
"""Nodes that are named first: those with the most failures."""
Records = dict[tuple[str, int], Record]


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
        """Of its element: another row, or one about another node, is never put into it."""
        return _id("r", self.outcome, self.signature, str(self.task_type), self.judged.gpu_id or "")

    def verdict_on(self, gpu_id: str) -> Verdict | None:
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
    types: list[OfType] = field(default_factory=list)

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
    verdict: Verdict | None


def _id(kind: str, *parts: str) -> str:
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


async def contents(asked: Asked) -> dict[str, Any]:
    database = asked.context.database
    groups = await database.single(recent_failures.groups)
    largest = _largest(groups)
    nodes = sorted({one.gpu_id for group in largest for one in group})
    types = sorted({one.task_type for group in largest for one in group})
    records = await database.single(lambda c: recent_failures.records(c, nodes, types)) if nodes else {}
    signatures = [_signature(group, records) for group in largest]
    judged = {row.judged.gpu_id for one in signatures for row in one.types if row.judged.gpu_id is not None}
    states = await database.single(lambda c: node_queries.states(c, judged)) if judged else {}
    failures = groups[0].of_all if groups else 0
    return {
        "signatures": signatures,
        "most": _most(groups, [row for one in signatures for row in one.types]),
        "state_of": {gpu_id: states.get(gpu_id, "GONE") for gpu_id in judged},
        "failures": failures,
        "is_cut": failures >= MOST,
        "left_out": groups[0].signatures - len(largest) if groups else 0,
    }


def _most(groups: list[FailureGroup], rows: list[OfType]) -> list[MostFailures]:
    """The nodes that fail most."""
    total = {one.gpu_id: one.of_node for one in groups}
    found = []
    for gpu_id in sorted(total, key=lambda one: (-total[one], one))[:MOST_NAMED]:
        largest = max(rows, key=lambda row: row.by_node.get(gpu_id, 0))
        verdict = largest.verdict_on(gpu_id) if gpu_id in largest.by_node else None
        found.append(MostFailures(gpu_id, total[gpu_id], verdict))
    return found


def _largest(groups: list[FailureGroup]) -> list[list[FailureGroup]]:
    """The groups of each signature, the signature with the most failures first."""
    by_signature: dict[tuple[str, str], list[FailureGroup]] = {}
    for one in groups:
        by_signature.setdefault((one.outcome, one.signature), []).append(one)
    return sorted(by_signature.values(), key=lambda some: -some[0].of_signature)[:MOST_SHOWN]


def _signature(groups: list[FailureGroup], records: Records) -> Signature:
    last = max(groups, key=lambda one: one.last_at)
    found = Signature(last.outcome, last.signature, last.reason, last.last_at, last.of_signature)
    for task_type in sorted({one.task_type for one in groups}):
        found.types.append(_of_type([one for one in groups if one.task_type == task_type], records))
    return found


def _of_type(groups: list[FailureGroup], records: Records) -> OfType:
    """One type's failures. A task that failed on several nodes is in the groups of each."""
    task_type, last = groups[0].task_type, max(groups, key=lambda one: one.last_at)
    tasks = max(sum(one.tasks for one in groups) - sum(one.alike for one in groups) // 2, 1)
    evidence = Evidence(
        Outcome(last.outcome),
        {one.gpu_id: one.failures for one in groups},
        tasks,
        sum(one.alike for one in groups) // 2,
        sum(one.done_elsewhere for one in groups),
        sum(one.attributed for one in groups),
        {gpu_id: record for (gpu_id, kind), record in records.items() if kind == task_type},
    )
    lost = sorted({task_id for one in groups for task_id in one.lost_ids})
    return OfType(
        last.outcome,
        last.signature,
        task_type,
        dict(evidence.by_node),
        failure_verdict.judge(evidence),
        lost[:MAX_IDS],
        len(lost) <= MAX_IDS and all(one.lost == len(one.lost_ids) for one in groups),
        last.task_id,
    )


PAGE = Page(
    "failures",
    "/failures",
    N_("Failures"),
    contents,
    roles=OPERATORS,
    key="e",
    events=frozenset({EventType.NODE_FAULTY, EventType.NODE_RECOVERED}),
    every_s=5.0,
)

"""Failures of the last day: by what they say, on which nodes, and whose they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.console.page import OPERATORS, Asked, Page
from api.console.texts import N_
from api.schemas.operations import MAX_IDS
from infra.db.attempts import recent_failures
from infra.db.attempts.recent_failures import MOST, FailureGroup
from workflows.domain import failure_verdict
from workflows.domain.attempt import Outcome
from workflows.domain.event import EventType
from workflows.domain.failure_verdict import Evidence, Judged
from workflows.domain.fault_attribution import Record

MOST_SHOWN = 20
"""Signatures that are shown."""
MOST_NODES = 12
"""Columns of a matrix."""
Records = dict[tuple[str, int], Record]


@dataclass(frozen=True)
class OfType:
    """The failures of one signature and type: a row of the matrix, with its verdict."""

    task_type: int
    by_node: dict[str, int]
    judged: Judged
    tasks: int
    done_elsewhere: int
    lost: int
    lost_ids: list[str]
    task_id: str


@dataclass
class Signature:
    """Failures alike, of all types."""

    outcome: str
    text: str
    reason: str | None
    last_at: datetime
    types: list[OfType] = field(default_factory=list)
    failures: int = 0

    @property
    def nodes(self) -> list[str]:
        """The nodes with the most failures."""
        total: dict[str, int] = defaultdict(int)
        for row in self.types:
            for gpu_id, n in row.by_node.items():
                total[gpu_id] += n
        return sorted(total, key=lambda one: (-total[one], one))[:MOST_NODES]


async def contents(asked: Asked) -> dict[str, Any]:
    database = asked.context.database
    groups = await database.single(recent_failures.groups)
    largest = _largest(groups)
    nodes = sorted({one.gpu_id for group in largest for one in group})
    types = sorted({one.task_type for group in largest for one in group})
    records = await database.single(lambda c: recent_failures.records(c, nodes, types)) if nodes else {}
    failures = sum(one.failures for one in groups)
    return {
        "signatures": [_signature(group, records) for group in largest],
        "failures": failures,
        "is_cut": failures >= MOST,
        "left_out": len({(one.outcome, one.signature) for one in groups}) - len(largest),
    }


def _largest(groups: list[FailureGroup]) -> list[list[FailureGroup]]:
    """The groups of each signature, the signature with the most failures first."""
    by_signature: dict[tuple[str, str], list[FailureGroup]] = {}
    for one in groups:
        by_signature.setdefault((one.outcome, one.signature), []).append(one)
    return sorted(by_signature.values(), key=lambda some: -sum(one.failures for one in some))[:MOST_SHOWN]


def _signature(groups: list[FailureGroup], records: Records) -> Signature:
    last = max(groups, key=lambda one: one.last_at)
    found = Signature(last.outcome, last.signature, last.reason, last.last_at)
    found.failures = sum(one.failures for one in groups)
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
    lost = sorted({task_id for one in groups for task_id in one.lost_ids})[:MAX_IDS]
    return OfType(
        task_type,
        dict(evidence.by_node),
        failure_verdict.judge(evidence),
        tasks,
        evidence.done_elsewhere,
        len(lost),
        lost,
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

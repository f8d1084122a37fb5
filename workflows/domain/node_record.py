"""A node's record: its failures in a row, and the rests that follow from them (docs/adr/0026).

A node that fails `RESTS_AFTER` distinct tasks in a row rests, and rests longer with each failure after that. It then
runs one task at a time, a *probe*, of another flow than the last failure's where one waits. A success ends all that.
A node that hands work back, refuses it, can't be reached or answers outside of the protocol rests after each time,
longer each time in a row. A node is never FAULTY for that: see `fault_attribution.is_outlier`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from workflows.domain.attempt import RULES, ForNode, Outcome
from workflows.domain.retry import backoff_s

RESTS_AFTER = 3
"""Distinct tasks that a node fails in a row before it rests."""
REMEMBERED = 16
"""How many of the last tasks that a node failed in a row are kept by id."""
HANDED_BACK_OFTEN = 3
"""Hand-backs in a row that call for an alert."""
REFUSED_FOR_LONG = 7
"""Failed contacts in a row that call for an alert: the pauses before have lasted for more than a minute."""


class RestCause(StrEnum):
    """Why a node rests."""

    FAILS = "FAILS"
    HANDS_BACK = "HANDS_BACK"
    REFUSES = "REFUSES"
    UNREACHABLE = "UNREACHABLE"
    PROTOCOL = "PROTOCOL"


@dataclass(frozen=True)
class Rest:
    """The node gets no work for `pause_s` seconds; `alerts`: people should know."""

    cause: RestCause
    pause_s: float
    alerts: bool


@dataclass(frozen=True)
class NodeRecord:
    """Failures in a row that count against a node. A success or a recovery clears them."""

    failed_contacts: int = 0  # failureCount
    task_failures: int = 0  # taskFailureCount
    failed_tasks: tuple[str, ...] = ()  # the task of each of these failures, the last REMEMBERED
    failed_flow: str | None = None  # that of the last one
    rests: int = 0  # for failed tasks
    hand_backs: int = 0

    @property
    def probes(self) -> bool:
        """Whether it gets one task at a time."""
        return self.rests > 0


def after(
    record: NodeRecord, outcome: Outcome, *, task_id: str, flow: str, attributed: bool = True, since_rest: bool = True
) -> tuple[NodeRecord, Rest | None]:
    """The record after an attempt, and the rest that begins.

    `attributed`: a failure is the node's. `since_rest`: the attempt was claimed after the node's last rest; what ran
    at the same time as the one that began it is counted, and does not extend the rest.
    """
    match RULES[outcome].node:
        case ForNode.WELL:
            return NodeRecord(), None
        case ForNode.FAILED:
            heard = replace(record, failed_contacts=0) if outcome is Outcome.FAILED else record
            return _after_failure(heard, task_id, flow, since_rest) if attributed else (heard, None)
        case ForNode.HEARD:
            return replace(record, failed_contacts=0), None
        case ForNode.HANDED_BACK:
            count = record.hand_backs + 1
            rest = Rest(RestCause.HANDS_BACK, backoff_s(count), count >= HANDED_BACK_OFTEN)
            return replace(record, hand_backs=count), rest if since_rest else None
        case ForNode.OUT_OF_CONTACT:
            count = record.failed_contacts + 1
            cause = _CONTACT[outcome]
            alerts = cause is RestCause.PROTOCOL or count >= REFUSED_FOR_LONG
            rest = Rest(cause, backoff_s(count), alerts)
            return replace(record, failed_contacts=count), rest if since_rest else None
        case ForNode.NOTHING:
            return record, None


_CONTACT = {
    Outcome.REFUSED: RestCause.REFUSES,
    Outcome.UNREACHABLE: RestCause.UNREACHABLE,
    Outcome.PROTOCOL_ERROR: RestCause.PROTOCOL,
}


def _after_failure(record: NodeRecord, task_id: str, flow: str, since_rest: bool) -> tuple[NodeRecord, Rest | None]:
    failed = replace(
        record,
        task_failures=record.task_failures + 1,
        failed_tasks=(*record.failed_tasks, task_id)[-REMEMBERED:],
        failed_flow=flow,
    )
    if len(set(failed.failed_tasks)) < RESTS_AFTER or (record.probes and not since_rest):
        return failed, None
    rests = record.rests + 1
    return replace(failed, rests=rests), Rest(RestCause.FAILS, backoff_s(rests), alerts=True)


def excused(record: NodeRecord, task_id: str) -> NodeRecord:
    """The record where the failures of a task turn out not to be the node's. Excusing twice changes nothing."""
    kept = tuple(one for one in record.failed_tasks if one != task_id)
    removed = len(record.failed_tasks) - len(kept)
    rests = record.rests if len(set(kept)) >= RESTS_AFTER else 0
    return replace(record, task_failures=max(record.task_failures - removed, 0), failed_tasks=kept, rests=rests)

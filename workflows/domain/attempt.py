"""An attempt: one try of one task on one slot. While it is open it is the lease of that slot.

`RULES` is the one table of what the end of an attempt means for its task and for its node (docs/adr/0026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto


class Outcome(StrEnum):
    """How an attempt was closed."""

    SUCCEEDED = "SUCCEEDED"  # the node's result was accepted
    FAILED = "FAILED"  # the node said that it failed
    TIMED_OUT = "TIMED_OUT"  # the deadline passed without a report
    REJECTED = "REJECTED"  # the node, or the work on it, said that this input can never work
    PROTOCOL_ERROR = "PROTOCOL_ERROR"  # the node answered the dispatch, but not as the node protocol says
    HANDED_BACK = "HANDED_BACK"  # the node gave it back: it is shutting down, or could not start the work
    REFUSED = "REFUSED"  # 409/503: no free slot, or not ready
    UNREACHABLE = "UNREACHABLE"  # no answer to the dispatch, however often repeated
    LOST = "LOST"  # the node fell silent
    FAULTY = "FAULTY"  # the node was marked faulty
    DEREGISTERED = "DEREGISTERED"  # the node is gone, or came back as another one
    DRAINED = "DRAINED"  # the deadline of the node's drain passed
    TASK_ENDED = "TASK_ENDED"  # its task was ended: cancelled, expired or past its deadline


@dataclass(frozen=True)
class End:
    """How an attempt has ended, with its result iff it succeeded. Raises ValueError.

    `ran_s`: for how many seconds the node has run it at least, if its acceptance is not recorded. `needs_people`: the
    node itself says that it will not recover by itself.
    """

    outcome: Outcome
    reason: str | None = None
    result: str | None = field(default=None, repr=False)
    ran_s: float = 0.0
    needs_people: bool = False

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.SUCCEEDED) != (self.result is not None):
            raise ValueError(f"{self.outcome} {'without' if self.result is None else 'with'} a result")


UNSAID: Mapping[Outcome, str] = {
    Outcome.FAILED: "节点报告执行失败",
    Outcome.REJECTED: "节点报告输入不可用",
    Outcome.HANDED_BACK: "节点交回任务",
    Outcome.TIMED_OUT: "任务执行超时",
    Outcome.UNREACHABLE: "节点对派发没有明确应答",
}
"""The reason of an end where nobody gives another."""


def run_id(task_id: str, attempt: int) -> str:
    """The attempt's id on its node (NODE_PROTOCOL)."""
    return f"{task_id}-{attempt}"


class ForTask(Enum):
    """The consequence for the task."""

    COMPLETES = auto()
    RETRIES = auto()  # a retry is used up; without one left the task ends by this outcome
    ASKS_ANOTHER = auto()  # no retry is used up, and this node is the last one to get it again; see `retry.judge`
    WAITS = auto()  # no retry is used up: it waits again, in the transaction that closes the attempt
    ENDED = auto()  # it has ended, in the transaction that closes the attempt


class ForNode(Enum):
    """The consequence for the node; `node_record.after` keeps count."""

    WELL = auto()  # ends every count in a row
    FAILED = auto()  # a failed task, where the failure is attributed to the node
    HEARD = auto()  # there is contact with the node; nothing else follows
    HANDED_BACK = auto()
    OUT_OF_CONTACT = auto()  # a failed contact
    NOTHING = auto()


@dataclass(frozen=True)
class Rule:
    """The meaning of an outcome. `compared`: the node is compared with its peers on such tasks (`is_outlier`)."""

    task: ForTask
    node: ForNode
    compared: bool = False


RULES: Mapping[Outcome, Rule] = {
    Outcome.SUCCEEDED: Rule(ForTask.COMPLETES, ForNode.WELL, compared=True),
    Outcome.FAILED: Rule(ForTask.RETRIES, ForNode.FAILED, compared=True),
    Outcome.TIMED_OUT: Rule(ForTask.RETRIES, ForNode.FAILED, compared=True),
    Outcome.REJECTED: Rule(ForTask.ASKS_ANOTHER, ForNode.HEARD, compared=True),
    Outcome.PROTOCOL_ERROR: Rule(ForTask.ASKS_ANOTHER, ForNode.OUT_OF_CONTACT, compared=True),
    Outcome.HANDED_BACK: Rule(ForTask.WAITS, ForNode.HANDED_BACK),
    Outcome.REFUSED: Rule(ForTask.WAITS, ForNode.OUT_OF_CONTACT),
    Outcome.UNREACHABLE: Rule(ForTask.WAITS, ForNode.OUT_OF_CONTACT),
    Outcome.LOST: Rule(ForTask.WAITS, ForNode.NOTHING),
    Outcome.FAULTY: Rule(ForTask.WAITS, ForNode.NOTHING),
    Outcome.DEREGISTERED: Rule(ForTask.WAITS, ForNode.NOTHING),
    Outcome.DRAINED: Rule(ForTask.WAITS, ForNode.NOTHING),
    Outcome.TASK_ENDED: Rule(ForTask.ENDED, ForNode.NOTHING),
}


def _outcomes(fate: ForTask) -> frozenset[Outcome]:
    return frozenset(outcome for outcome, rule in RULES.items() if rule.task is fate)


USES_RETRY = _outcomes(ForTask.RETRIES)
REQUEUES = _outcomes(ForTask.WAITS)
ASKS_ANOTHER = _outcomes(ForTask.ASKS_ANOTHER)
COMPARED = frozenset(outcome for outcome, rule in RULES.items() if rule.compared)

NODE_STILL_RUNS_IT = frozenset(
    {
        Outcome.TIMED_OUT,
        Outcome.FAULTY,
        Outcome.DEREGISTERED,
        Outcome.DRAINED,
        Outcome.UNREACHABLE,
        Outcome.PROTOCOL_ERROR,
        Outcome.TASK_ENDED,
    }
)
"""Outcomes after which the node may still be working: it is sent a cancel, as far as it can be reached, and the slot
is held until it says that the process is gone, at most `HELD_S`."""
HELD_S = 10.0
"""The most seconds between the end of an attempt and the release of its slot (INVARIANTS 6)."""
STOPPING_S = 2.0
"""Seconds after which the process is taken for gone if the node's answer to a cancel does not say (node protocol)."""

CONFIRMED = frozenset({"starting", "processing", "succeeded"})
"""Node statuses (node protocol) that confirm that the attempt is still held, or succeeded."""

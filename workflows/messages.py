"""The messages between workflows, activities and callers: one frozen dataclass each.

Durations end in `_s` or `_ms`. All of it is kept in histories, which operators read: ids and enums travel here, no
payload, no result, and no words of a node.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from workflows.domain.attempt import Outcome
from workflows.domain.command import Command
from workflows.domain.gpu import GpuStatus
from workflows.domain.operation import OperationState
from workflows.domain.task import TaskStatus


@dataclass(frozen=True)
class Grant:
    """A slot was claimed for the task's attempt number `attempt` (1 is the first)."""

    attempt: int
    gpu_id: str


@dataclass(frozen=True)
class TaskInput:
    """Starts a TaskWorkflow. Everything else about the task is in its row."""

    task_id: str
    task_type: int
    user_id: str
    app: str
    priority: int
    timeout_ms: int
    attempt: int = 0  # the last one that an earlier run of the workflow has taken note of
    waits: bool = False  # there was no slot for it, and it waits for a grant since then
    grant: Grant | None = None  # the slot that it got at its creation

    @classmethod
    def of(cls, task: Any, *, waits: bool = False, grant: Grant | None = None) -> TaskInput:
        """The message from an object that has a task's columns as attributes."""
        started = cls(task.task_id, task.task_type, task.user_id, task.app, task.priority, task.timeout_ms)
        return replace(started, waits=waits, grant=grant)


@dataclass(frozen=True)
class TaskSummary:
    """The result of a TaskWorkflow; the row says the same."""

    status: TaskStatus
    attempts: int
    gpu_id: str | None = None


@dataclass(frozen=True)
class TaskState:
    """The answer to the query `state` of a task's workflow: its last attempt (0: none yet), that attempt's node, and
    what the task does or waits for.
    """

    status: TaskStatus
    attempt: int
    gpu_id: str | None
    now: str


@dataclass(frozen=True)
class AttemptRef:
    """Names one attempt."""

    task_id: str
    attempt: int


@dataclass(frozen=True)
class Selection:
    """The answer of `select_slot`: a grant, or that the task waits for one; `status` None means that there is no row.

    `settled` is a closed attempt that has not been collected: it comes before any new one. `cancelled`: the task was.
    `running`: the last attempt of a task that has ended, where its node may still run it.
    """

    status: TaskStatus | None
    grant: Grant | None = None
    settled: Grant | None = None
    waiting: str = ""  # not empty: it waits; versions before 2026-11-30 said for what
    cancelled: bool = False
    running: Grant | None = None


class DispatchResult(StrEnum):
    """The outcome of a dispatch."""

    RUNNING = "RUNNING"  # the node runs it
    CLOSED = "CLOSED"  # the attempt is closed: `collect` reads how
    UNCLEAR = "UNCLEAR"  # the node gave no clear answer, however often it was asked


@dataclass(frozen=True)
class Dispatched:
    """The answer of `dispatch`. `watched_ms`: how long the node has held its answer, for work that is usually short."""

    delivery: DispatchResult
    watched_ms: int = 0


@dataclass(frozen=True)
class CollectInput:
    """Collect an attempt; where it is still open and `close_as` is given, close it with that outcome first."""

    task_id: str
    attempt: int
    close_as: Outcome | None = None


@dataclass(frozen=True)
class Collected:
    """How an attempt ended (`outcome` is None while it is open), and the status of its task after that.

    `cancelled`: the task was.
    """

    outcome: Outcome | None
    status: TaskStatus
    pause_s: float = 0.0
    cancelled: bool = False


@dataclass(frozen=True)
class Cancelled:
    """A task's state after its cancel: `cancelled` unless it had ended otherwise; `status` None: it has no row.

    `running` is the last attempt where its node may still run it.
    """

    status: TaskStatus | None
    cancelled: bool
    attempt: int = 0
    running: Grant | None = None


@dataclass(frozen=True)
class NodeSignal:
    """Something happened to a node; `epoch` is the registration that it happened to."""

    epoch: int


@dataclass(frozen=True)
class NodeCommand:
    """A person's command to a node, sent as a signal. `signal` identifies the signal, so that it counts once."""

    gpu_id: str
    command: Command
    reason: str
    signal: str
    deadline_ms: int | None = None  # of a drain, in Unix milliseconds


@dataclass(frozen=True)
class GpuHealthState:
    """All that a GpuHealthWorkflow carries from run to run."""

    gpu_id: str
    check_every_s: float
    status: GpuStatus = GpuStatus.ACTIVE
    epoch: int = 0
    open_attempts: int = 0
    draining: bool = False
    pending: list[str] = field(default_factory=list)
    commands: list[NodeCommand] = field(default_factory=list)


@dataclass(frozen=True)
class NodeView:
    """The node as `attend_node` left it; `unconfirmed` open attempts wait for the node's own word."""

    status: GpuStatus | None
    epoch: int
    silent_s: float
    open_attempts: int
    unconfirmed: bool = False
    check_every_s: float = 40.0  # the grace as it is set now
    draining: bool = False


@dataclass(frozen=True)
class NodeState:
    """The answer to the query `state` of a node's workflow: what it saw when it last looked at the row.

    It looks when something has happened to the node, and every few minutes; attempts that begin and end don't count.
    """

    status: GpuStatus
    epoch: int
    running_attempts: int
    as_of: str | None  # ISO 8601, or None if it has not looked yet
    draining: bool = False


@dataclass(frozen=True)
class WebhookState:
    """All that a WebhookWorkflow carries from run to run, and the answer to its query `state`."""

    webhook_id: str
    paused: bool = False


@dataclass(frozen=True)
class WebhookView:
    """The webhook as `send_due` left it."""

    gone: bool = False
    next_in_s: float | None = None  # until the next try; None if nothing is left to send


@dataclass(frozen=True)
class MonitorReport:
    """Findings and repairs of one monitor run, for the Web UI."""

    overall_health: str
    alerts_raised: int = 0
    mended: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OperationInput:
    """Names a bulk operation. Everything else about it is in its row."""

    operation_id: str


@dataclass(frozen=True)
class OperationProgress:
    """How far a bulk operation is: tasks changed, and tasks that could not be changed."""

    state: OperationState
    matched: int
    done: int
    failed: int

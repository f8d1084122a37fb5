"""A GPU node's states and legal transitions (INVARIANTS, "Legal transitions"; specification, GpuNodeInfo.status)."""

from __future__ import annotations

from enum import StrEnum

from workflows.domain.errors import IllegalTransition


class GpuStatus(StrEnum):
    """ACTIVE takes work; OFFLINE fell silent and comes back with a beat; FAULTY comes back by recover only."""

    ACTIVE = "ACTIVE"
    OFFLINE = "OFFLINE"
    FAULTY = "FAULTY"


TRANSITIONS: frozenset[tuple[GpuStatus | None, GpuStatus | None]] = frozenset(
    {
        (None, GpuStatus.ACTIVE),
        (None, GpuStatus.FAULTY),  # registered again, and FAULTY when it was deregistered
        (GpuStatus.ACTIVE, GpuStatus.OFFLINE),
        (GpuStatus.OFFLINE, GpuStatus.ACTIVE),
        (GpuStatus.ACTIVE, GpuStatus.FAULTY),
        (GpuStatus.OFFLINE, GpuStatus.FAULTY),
        (GpuStatus.FAULTY, GpuStatus.ACTIVE),
        (GpuStatus.ACTIVE, None),
        (GpuStatus.OFFLINE, None),
        (GpuStatus.FAULTY, None),
    }
)


def check_transition(before: GpuStatus | None, after: GpuStatus | None) -> None:
    """Raise IllegalTransition unless `before` → `after` is a transition of the table (None: not registered)."""
    if (before, after) not in TRANSITIONS:
        raise IllegalTransition(f"{before or '-'} → {after or '-'}")


class PriorityQueue(StrEnum):
    """`supportedTaskPriority` of a node, and the class of a task (specification §2.3)."""

    NORMAL = "NORMAL"
    VIP = "VIP"

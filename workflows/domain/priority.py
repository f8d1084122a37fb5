"""Priority classes (DESIGN, "Where the specification is silent"): a larger integer is more urgent."""

from __future__ import annotations

from workflows.domain.gpu import PriorityQueue

DEFAULT_PRIORITY = 1
VIP_FROM = 2
"""The smallest priority of the VIP class; below is NORMAL."""


def class_of(priority: int) -> PriorityQueue:
    """The class that a task of this priority waits in."""
    return PriorityQueue.VIP if priority >= VIP_FROM else PriorityQueue.NORMAL

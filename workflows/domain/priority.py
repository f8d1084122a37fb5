"""Priority classes (DESIGN, "Where the specification is silent"): a larger integer is more urgent."""

from __future__ import annotations

from workflows.domain.gpu import PriorityQueue

DEFAULT_PRIORITY = 1
VIP_FROM = 2
"""The smallest priority of the VIP class; below is NORMAL."""


def class_of(priority: int) -> PriorityQueue:
    """The class that a task of this priority waits in."""
    return PriorityQueue.VIP if priority >= VIP_FROM else PriorityQueue.NORMAL


def node_serves(node: PriorityQueue, task: PriorityQueue, *, vip_waiting: bool, strict: bool) -> bool:
    """Whether a node's free slot may go to a task of a class.

    A NORMAL node serves both classes. A VIP node serves VIP, and NORMAL only while no VIP task
    waits for it, unless `strict`.
    """
    if node is PriorityQueue.NORMAL or task is PriorityQueue.VIP:
        return True
    return not strict and not vip_waiting

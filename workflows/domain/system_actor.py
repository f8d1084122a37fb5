"""The parts of the system that act, as timelines and the audit log name them."""

from __future__ import annotations

from enum import StrEnum


class SystemActor(StrEnum):
    """The actor of a step in a task's timeline, if it is neither a key nor a node."""

    WORKFLOW = "workflow"  # the task's own
    NODE_WORKFLOW = "gpu-health"
    PERSON = "temporal"  # by way of Temporal; also the owner in the audit log
    LIMITS = "limits"
    DRAIN = "drain"  # at its deadline
    RECONCILER = "reconciler"

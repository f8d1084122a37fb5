"""Priority classes (DESIGN, "Where the specification is silent"): a larger integer is more urgent."""

from __future__ import annotations

DEFAULT_PRIORITY = 1
VIP_FROM = 2
"""The smallest priority of the VIP class; below is NORMAL."""


def queue_class(priority: int) -> int:
    """The class that a task of this priority waits in: 1 is VIP, 0 NORMAL."""
    return int(priority >= VIP_FROM)

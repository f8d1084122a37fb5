"""An attempt: one try of one task on one slot. While it is open it is the lease of that slot."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How an attempt was closed. The class of an outcome decides what becomes of its task."""

    SUCCEEDED = "SUCCEEDED"  # the node's result was accepted
    FAILED = "FAILED"  # the node said that it failed
    TIMED_OUT = "TIMED_OUT"  # the deadline passed without a report
    REJECTED = "REJECTED"  # the node answered 400/422: this input can never work
    HANDED_BACK = "HANDED_BACK"  # the node gave it back unstarted
    REFUSED = "REFUSED"  # 409/503: no free slot, or not ready
    UNREACHABLE = "UNREACHABLE"  # no clear answer to the dispatch, however often repeated
    LOST = "LOST"  # the node fell silent
    FAULTY = "FAULTY"  # the node was marked faulty
    DEREGISTERED = "DEREGISTERED"  # the node is gone, or came back as another one


USES_RETRY = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})
"""Outcomes that use up a retry (DESIGN, Timeout)."""

REQUEUES = frozenset(
    {
        Outcome.HANDED_BACK,
        Outcome.REFUSED,
        Outcome.UNREACHABLE,
        Outcome.LOST,
        Outcome.FAULTY,
        Outcome.DEREGISTERED,
    }
)
"""Outcomes that leave nothing to decide: the task waits again in the same transaction, no retry used up."""

NODE_STILL_RUNS_IT = frozenset({Outcome.TIMED_OUT, Outcome.FAULTY, Outcome.DEREGISTERED, Outcome.UNREACHABLE})
"""Outcomes after which the node may still be working: it is told to stop, as far as it can be reached."""

CONTACT_FAILED = frozenset({Outcome.REFUSED, Outcome.UNREACHABLE})
"""Outcomes that count as a failed contact with the node (failureCount)."""

REACHED = frozenset({Outcome.SUCCEEDED, Outcome.FAILED})
"""Outcomes that the node itself has told: so there is contact with it."""

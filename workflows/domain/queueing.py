"""The order of the queue, and what a place in it is worth in seconds: pure rules, the SQL of `infra.db` applies them.

Classes first: VIP before NORMAL. Within a class the flows (`shares`) share by start-time fair queueing: a task's
rank is its virtual start time, a flow's tasks lie `1 / weight` apart, and a flow that joins starts
where the queue is now. So two flows take turns however many tasks each has, and each flow's own tasks
go oldest first. Equal ranks go oldest first too.
"""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_WEIGHT = 1.0
AGED_WEIGHT = 0.25
"""All aged NORMAL tasks of a type together weigh this much in the VIP class, where a flow weighs 1."""

USUAL_DURATION_S = 60.0
"""Of a type that has never finished a task."""


def rank(virtual_time: float, last_of_flow: float | None, weight: float) -> float:
    """The virtual start time of a task that joins the queue.

    `virtual_time` is the rank at the head of the queue, `last_of_flow` the rank of the last task that the
    same flow has waiting there.
    """
    if last_of_flow is None:
        return virtual_time
    return max(virtual_time, last_of_flow + 1 / weight)


def wait_s(ahead: int, slots: int, remaining_s: Sequence[float], usual_s: float) -> float | None:
    """Seconds until a task starts that has `ahead` others before it; None, which is unknown, without a slot.

    `slots` are those that it can use, `remaining_s` what is left of each running attempt on them,
    `usual_s` how long one of the tasks ahead takes.
    """
    if slots == 0:
        return None
    free = max(slots - len(remaining_s), 0)
    ends = [0.0] * free + sorted(remaining_s)
    rounds, place = divmod(ahead, len(ends))
    return ends[place] + rounds * usual_s

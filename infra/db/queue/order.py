"""The order of the queue: VIP before NORMAL, then by rank (`infra.db.queue.ranks`), then by age.

The one definition, in SQL fragments for rows `task` of tasks that wait, and as a `QueuePlace` for what is compared
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

Key = tuple[float, ...]
"""The sort key of a place: the smaller goes first."""

YOUNGEST = 2**62
"""The display id of a task that has none yet."""


@dataclass(frozen=True)
class Ranked:
    """A row with the columns of the order."""

    queue_class: int
    queue_rank: float
    display_id: int

    @property
    def place(self) -> QueuePlace:
        """Its place in the queue."""
        return QueuePlace(self.queue_class, self.queue_rank, self.display_id)

    @property
    def key(self) -> Key:
        """The key that sorts it."""
        return -self.queue_class, self.queue_rank, self.display_id


@dataclass(frozen=True)
class QueuePlace(Ranked):
    """A place in the queue. Its fields are the parameters of `before` and `after`."""

    @classmethod
    def of_new(cls, queue_class: int, queue_rank: float) -> QueuePlace:
        """The place of a new task of this rank, which is the youngest."""
        return cls(queue_class, queue_rank, YOUNGEST)

    @classmethod
    def head(cls, queue_class: int) -> QueuePlace:
        """The place before the first of a class."""
        return cls(queue_class, -math.inf, 0)

    @classmethod
    def of_text(cls, text: str) -> QueuePlace | None:
        """The place of a task that `text` names, if it does."""
        try:
            queue_class, queue_rank, display_id = text.split("_")
            place = cls(int(queue_class), float(queue_rank), int(display_id))
        except ValueError:
            return None
        is_place = place.queue_class in (0, 1) and math.isfinite(place.queue_rank) and 0 <= place.display_id < YOUNGEST
        return place if is_place else None

    @property
    def text(self) -> str:
        """The place for a URL."""
        return "_".join(map(repr, astuple(self)))


HEAD = QueuePlace.head(2)
"""Before the first place."""
_TYPES = {"queue_class": "smallint", "queue_rank": "float", "display_id": "bigint"}
_PLACE = "(%(queue_rank)s, %(display_id)s)"
NAMES = ", ".join(_TYPES)
"""The names of the columns of `Ranked`."""
ARRAYS = ", ".join(f"CAST(%(each_{name})s AS {kind}[])" for name, kind in _TYPES.items())
"""The columns of many places, for `unnest`; their parameters are `arrays`."""


def arrays(places: Iterable[Ranked]) -> dict[str, list[float]]:
    """The parameters of `ARRAYS`."""
    listed = list(places)
    return {f"each_{name}": [getattr(one, name) for one in listed] for name in _TYPES}


def flow(task: str) -> str:
    """The flow of a task (workflows.domain.shares)."""
    return f"COALESCE({task}.flow, 'app:' || {task}.app)"


def vip(task: str) -> str:
    """The task is VIP by its own priority, not by age."""
    return f"{task}.queue_class > 0 AND {task}.promoted_at IS NULL"


def columns(task: str) -> str:
    """The columns of `Ranked`."""
    return f"{task}.queue_class, {in_class(task)}"


def in_order(task: str) -> str:
    """The whole order: class, then rank, then age."""
    return f"{task}.queue_class DESC, {in_class(task)}"


def in_class(task: str) -> str:
    """The order within a class."""
    return f"{task}.queue_rank, {task}.display_id"


def backwards(task: str) -> str:
    """The order from its end, as the index of groups has it: of equal ranks either may come first."""
    return f"{task}.queue_class, {task}.queue_rank DESC"


def before(task: str) -> tuple[str, str]:
    """The task is before a place: in a class above, or in its own. Each is one stretch of the queue's index."""
    return f"{task}.queue_class > %(queue_class)s", f"{_of_class(task)} < {_PLACE}"


def after(task: str) -> tuple[str, str]:
    """The task is after a place: in its class, or in one below. Each is one stretch of the queue's index."""
    return f"{_of_class(task)} > {_PLACE}", f"{task}.queue_class < %(queue_class)s"


def between(task: str, mark: str) -> str:
    """The task is in the class of a place, before it, and not before the row `mark`, a place of that class."""
    return f"{before(task)[1]} AND ({in_class(task)}) >= ({in_class(mark)})"


def _of_class(task: str) -> str:
    return f"{task}.queue_class = %(queue_class)s AND ({in_class(task)})"

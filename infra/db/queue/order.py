"""The order of the queue: VIP before NORMAL, then by rank (`infra.db.queue.ranks`), then by age.

The one definition, in SQL fragments for rows `task` of tasks that wait, and as a `Place` for what is compared here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

FLOW = "COALESCE({task}.flow, 'app:' || {task}.app)"
"""The flow of a task (workflows.domain.shares)."""

Mark = tuple[float, int]
"""A place within a class: a rank and a display id."""


class Ranked(Protocol):
    """A row with the columns of the order."""

    @property
    def queue_class(self) -> int: ...
    @property
    def queue_rank(self) -> float: ...
    @property
    def display_id(self) -> int: ...


@dataclass(frozen=True)
class Place:
    """A place in the queue. Its fields are the parameters of `before` and `after`."""

    queue_class: int
    rank: float
    display_id: int

    @classmethod
    def of(cls, row: Ranked) -> Place:
        """The place of a task."""
        return cls(row.queue_class, row.queue_rank, row.display_id)

    @classmethod
    def of_new(cls, queue_class: int, rank: float) -> Place:
        """The place of a new task of this rank, which has no display id yet: it is the youngest."""
        return cls(queue_class, rank, 2**62)

    @property
    def mark(self) -> Mark:
        """The place within its class."""
        return self.rank, self.display_id


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


def before(task: str) -> str:
    """The task is before a place of its class."""
    return f"({in_class(task)}) < (%(rank)s, %(display_id)s)"


def after(task: str) -> str:
    """The task is after a place of its class."""
    return f"({in_class(task)}) > (%(rank)s, %(display_id)s)"

"""Whether the work of a task type could be started here when that was tried last.

If it could not, that is the node's fault, and the task is handed back. From then on one attempt at a time tries again,
so that the node recovers as soon as its program or handler does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workers.node.errors import CannotStart, NotReady


class Starts:
    """The failure of the last start by task type, and whether it is being tried again."""

    def __init__(self) -> None:
        self._failures: dict[int, CannotStart] = {}
        self._tried: set[int] = set()

    @property
    def failure(self) -> CannotStart | None:
        """The failure of one of the types that could not be started last."""
        return next(iter(self._failures.values()), None)

    def check(self, task_type: int) -> None:
        """Raise NotReady where an attempt is just trying again what could not be started last."""
        if task_type in self._tried:
            raise NotReady(str(self._failures[task_type]))

    @contextmanager
    def tried(self, task_type: int) -> Iterator[None]:
        """One attempt, from before its start until its end. A CannotStart that it raises is noted."""
        if task_type in self._failures:
            self._tried.add(task_type)
        try:
            yield
        except CannotStart as failure:
            self._failures[task_type] = failure
            raise
        finally:
            self._tried.discard(task_type)

    def worked(self, task_type: int) -> None:
        """An attempt's work runs."""
        self._failures.pop(task_type, None)
        self._tried.discard(task_type)

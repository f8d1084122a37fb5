"""How many of something may be open at once: of one lineage, and in one process."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack


class Spent(Exception):
    """One more would be too many."""


class Allowance:
    """Counts what is open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """The number that are open."""
        return self._open.total()

    def take(self, lineage: str, most: int | None) -> ExitStack:
        """Count one more until the returned stack is closed. `most`: the lineage's limit, or None. Raises Spent."""
        if self.taken >= self._most or (most is not None and self._open[lineage] >= most):
            raise Spent
        self._open[lineage] += 1
        place = ExitStack()
        place.callback(self._give_back, lineage)
        return place

    def _give_back(self, lineage: str) -> None:
        self._open[lineage] -= 1
        if not self._open[lineage]:
            del self._open[lineage]

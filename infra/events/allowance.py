"""How many of something may be open at once: of one lineage, and in one process."""

from __future__ import annotations

from collections import Counter
from typing import Self


class Spent(Exception):
    """One more would be too many."""


class Allowance:
    """Counts what is open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are open."""
        return self._open.total()

    def take(self, lineage: str, most: int | None) -> Taken:
        """Count one more; `most` of the lineage, None: no limit of its own. Raises Spent."""
        if self.taken >= self._most or (most is not None and self._open[lineage] >= most):
            raise Spent
        self._open[lineage] += 1
        return Taken(self._open, lineage)


class Taken:
    """One that is open, until it is given back."""

    def __init__(self, counts: Counter[str], lineage: str) -> None:
        self._counts = counts
        self._lineage: str | None = lineage

    def give_back(self) -> None:
        """Count it no more. Repeating it does nothing."""
        if self._lineage is not None:
            self._counts[self._lineage] -= 1
            if not self._counts[self._lineage]:
                del self._counts[self._lineage]
            self._lineage = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

"""Statistics of raw samples: no means of means, no interpolation, nothing thrown away."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Samples:
    """Raw measurements of one quantity, in the order in which they were taken."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Samples:
        """Raise ValueError if nothing was measured."""
        kept = tuple(values)
        if not kept:
            raise ValueError("no sample was taken")
        return cls(kept)

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def p50(self) -> float:
        return self.quantile(0.50)

    @property
    def p99(self) -> float:
        return self.quantile(0.99)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / self.n

    def quantile(self, share: float) -> float:
        """The nearest rank: the smallest sample that at least `share` (0 < share ≤ 1) of all samples do not exceed."""
        if not 0 < share <= 1:
            raise ValueError(f"{share} is no share")
        return sorted(self.values)[math.ceil(share * self.n) - 1]

    def __add__(self, other: Samples) -> Samples:
        return Samples(self.values + other.values)


def list_schedule(durations: Iterable[float], slots: int) -> float:
    """The makespan of a batch served in order, each task by the first free slot, without any gap."""
    free_at = [0.0] * slots
    for duration in durations:
        first = min(range(slots), key=free_at.__getitem__)
        free_at[first] += duration
    return max(free_at)

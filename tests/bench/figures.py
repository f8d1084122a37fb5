"""One figure of the bench: a value, the reference it is compared with, and whether it meets its target."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Of(StrEnum):
    """The number that a target applies to."""

    RATIO = "ratio"
    VALUE = "value"


@dataclass(frozen=True)
class Target:
    """A bound that the ratio (or the value itself) must keep."""

    bound: float
    at_least: bool = False
    of: Of = Of.RATIO

    def met_by(self, number: float) -> bool:
        """Whether the number keeps the bound, inclusive."""
        return number >= self.bound if self.at_least else number <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bound:g}{'×' if self.of is Of.RATIO else ''}"


def at_most(bound: float, of: Of = Of.RATIO) -> Target:
    """A target with an upper bound."""
    return Target(bound, False, of)


def at_least(bound: float, of: Of = Of.RATIO) -> Target:
    """A target with a lower bound."""
    return Target(bound, True, of)


@dataclass(frozen=True)
class Figure:
    """A measured figure. Its `value` is None if it was not measured; `note` then says why."""

    name: str
    value: float | None
    unit: str
    reference: float | None = None
    against: str = ""  # what the reference is
    target: Target | None = None
    n: int | None = None  # samples behind the value
    note: str = ""
    failed: bool = False

    @property
    def ratio(self) -> float | None:
        """The value over its reference, if it has one."""
        if self.value is None or not self.reference:
            return None
        return self.value / self.reference

    @property
    def met(self) -> bool | None:
        """Whether the target is met, or None if there is no target, or no number to compare with it."""
        number = self.ratio if self.target is not None and self.target.of is Of.RATIO else self.value
        if self.target is None or number is None:
            return None
        return self.target.met_by(number)

    def as_json(self) -> dict[str, Any]:
        """The figure for the last line of the output."""
        return {
            "value": _round(self.value),
            "unit": self.unit,
            "reference": _round(self.reference),
            "against": self.against,
            "ratio": _round(self.ratio),
            "target": str(self.target) if self.target else None,
            "met": self.met,
            "n": self.n,
            "note": self.note,
            "failed": self.failed,
        }


def failure(name: str, error: BaseException) -> Figure:
    """A measurement that did not finish."""
    return Figure(name, None, "", note=f"FAILED: {type(error).__name__}: {error}", failed=True)


def not_run(name: str, unit: str, why: str) -> Figure:
    """A figure that this machine cannot give, which is no failure."""
    return Figure(name, None, unit, note=f"not run: {why}")


def _round(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.6g}")

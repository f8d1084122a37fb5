"""An invariant as a query."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Check:
    """`broken` selects one text per violation, `strict` is its parameter; `rows` is the table that is examined."""

    invariant: int
    name: str
    rows: str
    broken: str = field(repr=False)

"""Where alerts are sent (NOTIFY): Apprise URLs, each with the least level that it gets.

A URL holds tokens and passwords: no log, error or `repr` shows more of it than its scheme.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.alert_messages import apprise
from workflows.domain.alert import AlertLevel

USUAL = AlertLevel.WARNING


@dataclass(frozen=True)
class Destination:
    """One of them; `number` counts from 1 and names it in logs, with its scheme."""

    number: int
    level: AlertLevel
    url: str = field(repr=False)

    def __str__(self) -> str:
        return f"NOTIFY URL {self.number} ({_scheme(self.url)}://…)"

    @property
    def digest(self) -> str:
        """Names it in the database."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


def parse(value: str) -> tuple[Destination, ...]:
    """`LEVEL URL URL LEVEL URL`. Raises ValueError, without a word of the text."""
    found: list[Destination] = []
    level = USUAL
    for number, word in enumerate(filter(None, (word.strip(",") for word in value.split())), start=1):
        named = word.upper().removesuffix("+")
        if named in AlertLevel.__members__:
            level = AlertLevel[named]
        elif "://" not in word:
            raise ValueError(f"word {number} is neither INFO, WARNING or CRITICAL nor a URL")
        else:
            found.append(Destination(len(found) + 1, level, word))
    _check(found)
    return tuple(found)


def text(destinations: Iterable[Destination]) -> str:
    """The text that gives the same, for the programs that we start."""
    return " ".join(f"{one.level} {one.url}" for one in destinations)


def _check(found: Iterable[Destination]) -> None:
    for one in found:
        if not apprise.understands(one.url):
            raise ValueError(f"URL {one.number} ({_scheme(one.url)}://…) is not a URL that Apprise supports")


def _scheme(url: str) -> str:
    scheme = url.partition("://")[0]
    return scheme if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,31}", scheme) else "?"

"""JSON that can be written out again: what Python's parser lets through and others refuse is refused here too."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

MAX_DEPTH = 100
"""Levels of nesting: far below the interpreter's own limit."""
INT64 = range(-(2**63), 2**63)
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")
"""NUL and lone surrogates: Postgres takes no NUL, UTF-8 no surrogate."""


def encodable(part: Any) -> bool:
    """Whether a value (or key) alone can be written out and stored: no NaN, no infinity, no NUL, no surrogate."""
    if isinstance(part, str):
        return UNSTORABLE.search(part) is None
    return not isinstance(part, float) or math.isfinite(part)


def storable(part: Any) -> bool:
    """As `encodable`, and an integer has at most 64 bits."""
    return part in INT64 if isinstance(part, int) else encodable(part)


def check(value: Any, fits: Callable[[Any], bool]) -> None:
    """Raise ValueError unless every value and key within `value` fits and none lies too deep."""
    for part, depth in _parts(value):
        if depth > MAX_DEPTH or not fits(part):
            raise ValueError("not plain JSON")


def parse(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError where it is none, or could not be written out again."""
    value = loads(text)
    check(value, encodable)
    return value


def loads(text: str | bytes, as_object: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """As `json.loads`, with ValueError for every text it can't take; NaN and its like are left to `check`.

    `as_object` makes an object of its pairs.
    """
    try:
        return json.loads(text, object_pairs_hook=as_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _parts(value: Any) -> Iterator[tuple[Any, int]]:
    """Every value and key within, with its depth; without recursion, which is what a deep nesting aims at."""
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        yield part, depth
        if isinstance(part, dict):
            waiting += [(inner, depth + 1) for pair in part.items() for inner in pair]
        elif isinstance(part, list):
            waiting += [(inner, depth + 1) for inner in part]

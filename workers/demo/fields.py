"""The fields of a handler's input, checked; a bad one is a ValueError that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def path(source: Mapping[str, Any], name: str) -> str:
    """The name of a file, not empty."""
    value = source.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: a path is needed")
    return value


def whole(source: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """An integer from `least` to `most`."""
    value = source.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name}: an integer from {least} to {most} is needed")
    return value

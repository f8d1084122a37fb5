"""The place of a fault in a body, as a refusal names it: `app`, `tasks[2].taskType`, `filter.app`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def shown(name: str, otherwise: str) -> str:
    """A caller's own name for a field, if it looks like a field's name. A refusal repeats nothing else of the
    caller's."""
    return name if name.isidentifier() and len(name) <= 64 else otherwise


def of_location(where: Sequence[Any], *, names_entry: bool) -> str:
    """The name of a location within a model: the outermost field, of a list of objects the entry's field, of a filter
    the field within. `names_entry`: the fault is the entry of the list itself."""
    field = next((part for part in where if isinstance(part, str)), "body")
    match where[1:3]:
        case [int(index), str(name)]:
            return f"{field}[{index}].{name}"
        case [int(index)] if names_entry:
            return f"{field}[{index}]"
        case [name, *_] if field == "filter" and (within := shown(str(name), "")):
            return f"filter.{within}"
    return field


def first(body: Mapping[str, Any], fits: Callable[[Any], bool]) -> str:
    """The name of the first field of a body that does not fit, of a list of objects the entry's field."""
    for key, member in body.items():
        if not fits(key):
            return "body"
        if not fits(member):
            name = shown(key, "")
            return _within(name, member, fits) if name else "body"
    return "body"


def _within(name: str, member: Any, fits: Callable[[Any], bool]) -> str:
    if not isinstance(member, list) or not any(isinstance(entry, dict) for entry in member):
        return name
    index, entry = next((index, entry) for index, entry in enumerate(member) if not fits(entry))
    at = f"{name}[{index}]"
    if not isinstance(entry, dict):
        return at
    field = next((shown(key, "") for key, value in entry.items() if not (fits(key) and fits(value))), "")
    return f"{at}.{field}" if field else at

"""Lists over several pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.command.server import Server


PAGE = 100


def read(server: Server, path: str, chosen: Mapping[str, Any], most: int, key: str) -> tuple[list[dict[str, Any]], int]:
    """The first entries of a list, and how many there are in all. `key` names an entry.

    What is pushed to the next page while it is read comes once.
    """
    rows: dict[str, dict[str, Any]] = {}
    size, total = min(most, PAGE), 0
    for page in range(1, -(-most // size) + 1):
        found, headers = server.read(path, {**chosen, "page": page, "size": size})
        rows |= {one[key]: one for one in found if one[key] not in rows}
        total = int(headers.get("x-total-count", len(rows)))
        if len(found) < size:
            break
    return list(rows.values())[:most], total

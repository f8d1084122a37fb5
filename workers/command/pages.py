"""Lists over several pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from workers.command.server import Server

PAGE = 100


class Found(NamedTuple):
    """The first entries of a list, and how many there are in all: at least, unless the number `is_exact`."""

    rows: list[dict[str, Any]]
    total: int
    is_exact: bool

    @property
    def in_all(self) -> str:
        """The total, or that there are more, in words."""
        return str(self.total) if self.is_exact else f"more than {self.total}"


def read(server: Server, path: str, chosen: Mapping[str, Any], most: int, key: str) -> Found:
    """The first entries of a list, up to the last page that the API shows. `key` names an entry.

    An entry that is pushed to the next page during the reading comes once.
    """
    from gpu_orchestrator_client.calls import is_last  # not above: `--help` makes no call

    rows: dict[str, dict[str, Any]] = {}
    size, total, is_exact = min(most, PAGE), 0, True
    for page in range(1, -(-most // size) + 1):
        found, headers = server.read(path, {**chosen, "page": page, "size": size})
        rows |= {one[key]: one for one in found if one[key] not in rows}
        total = int(headers.get("x-total-count", len(rows)))
        is_exact = headers.get("x-total-count-exact") != "false"
        if is_last(len(found), size, headers):
            break
    return Found(list(rows.values())[:most], total, is_exact)

"""The tries under way in this process: at a host, of a webhook, of an owner, and all.

A quarter of the places at each level is for those that have none there, so that hanging receivers of one owner keep no
other owner waiting.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

T = TypeVar("T")

AT_HOST = 10
"""Tries at the same time at one host."""
OF_OWNER = 100
MOST = 500
FILES_OF_A_TRY = 8
"""Files of the process for each try. It opens four at most (`sender.OF_A_FAMILY`), so half of them are left."""


def within(files: int) -> int:
    """The tries that may be under way in a process that may open `files`."""
    return min(MOST, files // FILES_OF_A_TRY)


class Tries:
    """Counts the tries that are under way."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._all = 0
        self._of_owner: Counter[str] = Counter()
        self._of_webhook: Counter[str] = Counter()
        self._at_host: Counter[str] = Counter()
        self._of_owner_at_host: Counter[tuple[str, str]] = Counter()

    def reserve(self, owner: str, webhook_id: str, host: str) -> bool:
        """Reserve a try, before anything is awaited: `release` follows its end. Returns False, and reserves none, if as
        many are under way as may be."""
        if not self.room(owner, webhook_id) or not self._room_at(owner, host):
            return False
        self._count(1, owner, webhook_id, host)
        return True

    def release(self, owner: str, webhook_id: str, host: str) -> None:
        """Give a reserved try back."""
        self._count(-1, owner, webhook_id, host)

    def room(self, owner: str, webhook_id: str) -> int:
        """The most tries of a webhook that may begin now. Each one may leave less to the next."""
        of_owner = self._of_owner[owner]
        return min(_room(self._all, of_owner, self._most), _room(of_owner, self._of_webhook[webhook_id], OF_OWNER))

    def full_hosts(self, owner: str) -> list[str]:
        """Hosts, as they are in URLs, at which no try of an owner may begin now."""
        return [host for host in self._at_host if not self._room_at(owner, host)]

    def _room_at(self, owner: str, host: str) -> int:
        return _room(self._at_host[host], self._of_owner_at_host[owner, host], AT_HOST)

    def _count(self, by: int, owner: str, webhook_id: str, host: str) -> None:
        self._all += by
        _add(self._of_owner, owner, by)
        _add(self._of_webhook, webhook_id, by)
        _add(self._at_host, host, by)
        _add(self._of_owner_at_host, (owner, host), by)


def _room(used: int, own: int, most: int) -> int:
    """The places that are left to one that has `own` of those that are used."""
    kept = most // 4 if own else 0
    return max(0, most - kept - used)


def _add(counter: Counter[T], key: T, by: int) -> None:
    counter[key] += by
    if not counter[key]:
        del counter[key]

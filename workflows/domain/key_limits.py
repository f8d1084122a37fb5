"""Limits of a key within its role: priorities and apps of a user's, types, GPUs and networks of a node's.

The keys of a lineage share one set of limits. An absent one limits nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address, ip_network
from typing import Any, Self

from workflows.domain.role import Role


@dataclass(frozen=True)
class KeyLimits:
    """The limits of one lineage of keys."""

    max_priority: int | None = None
    apps: tuple[str, ...] | None = None
    types: tuple[int, ...] | None = None
    max_gpus: int | None = None
    """GPUs that are registered at a time, in any state."""
    max_slots: int | None = None
    """The sum of their `maxConcurrentTasks`."""
    networks: tuple[str, ...] | None = None
    """CIDRs."""

    @classmethod
    def of(cls, shown: Mapping[str, Any] | None) -> Self:
        """The inverse of `shown`. Raises KeyError where a later version wrote a limit that this one can't keep."""
        given: dict[str, Any] = {
            ATTRIBUTES[name]: tuple(value) if isinstance(value, list) else value
            for name, value in (shown or {}).items()
        }
        return cls(**given)

    def shown(self) -> dict[str, Any]:
        """The limits that are there, as they are stored and printed."""
        given = {name: getattr(self, attribute) for name, attribute in ATTRIBUTES.items()}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in given.items() if v is not None}

    def beyond(self, role: Role) -> list[str]:
        """The names of the limits that mean nothing to a role."""
        return [name for name in self.shown() if name not in OF_ROLE.get(role, ())]

    def priority(self, asked: int | None, default: int) -> int | None:
        """A task's priority: `asked`, or the default within the limit; None if `asked` is beyond it."""
        if self.max_priority is None:
            return default if asked is None else asked
        if asked is None:
            return min(default, self.max_priority)
        return asked if asked <= self.max_priority else None

    def allow_app(self, app: str) -> bool:
        """Whether a task may name this app."""
        return self.apps is None or app in self.apps

    def allow_types(self, types: Iterable[int]) -> bool:
        """Whether a node may serve all of these types."""
        return self.types is None or set(types) <= set(self.types)

    def allow_ip(self, ip: str) -> bool:
        """Whether a node may have this address, a literal one."""
        return self.networks is None or any(ip_address(ip) in ip_network(one) for one in self.networks)

    def allow_gpus(self, gpus: int) -> bool:
        """Whether this number of GPUs may be registered at a time."""
        return self.max_gpus is None or gpus <= self.max_gpus

    def allow_slots(self, slots: int) -> bool:
        """Whether all GPUs together may have this number of slots."""
        return self.max_slots is None or slots <= self.max_slots


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


ATTRIBUTES = {_camel(field.name): field.name for field in fields(KeyLimits)}
OF_ROLE = {
    Role.USER: ("maxPriority", "apps"),
    Role.NODE: ("types", "maxGpus", "maxSlots", "networks"),
}
UNLIMITED = KeyLimits()

"""The policy of the queue: what an operator may choose about who gets which slot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QueuePolicy:
    """Made from the settings once, and given to the database; a transaction reads it from its connection."""

    vip_nodes_strict: bool = False
    """Whether VIP nodes serve only VIP tasks."""

    def on_vip_nodes(self, *, vip: bool) -> bool:
        """Whether tasks of this class may run on VIP nodes."""
        return vip or not self.vip_nodes_strict

"""The address of a node."""

from __future__ import annotations

from dataclasses import dataclass

from infra.environment.own_address import http_url


@dataclass(frozen=True)
class NodeAddress:
    """A node's address and the secret that it registered."""

    ip: str
    port: int
    secret: str | None

    @property
    def base(self) -> str:
        """`http://ip:port`; an IPv6 address gets its brackets."""
        return http_url(self.ip, self.port)

"""Where nodes may live (INVARIANTS, "Who may call what"): checked at registration and again at every call to a node."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from infra.own_services import Address, OwnServices
from infra.settings import Settings
from workflows.domain.errors import ForbiddenAddress

NEVER = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # unspecified: "this network"
            "169.254.0.0/16",  # link-local, where most clouds have their metadata service
            "100.100.100.200/32",  # metadata services elsewhere
            "168.63.129.16/32",
            "192.0.0.192/32",
            "224.0.0.0/4",  # multicast
            "255.255.255.255/32",  # broadcast
            "::/128",
            "::ffff:0:0/96",  # IPv4-mapped
            "::ffff:0:0:0/96",  # IPv4-translated
            "64:ff9b:1::/48",  # NAT64 for local use: what lies behind it can't be judged
            "fd00:ec2::/32",  # metadata services
            "fd20:ce::/32",
            "fe80::/10",  # link-local
            "ff00::/8",  # multicast
        ),
    )
)
"""What is refused whatever the operator allows."""

COMPATIBLE, NAT64 = ip_network("::/96"), ip_network("64:ff9b::/96")


class AllowList:
    """NODE_NETWORKS and NODE_PORTS, less what is refused always and less our own services."""

    def __init__(self, settings: Settings, own: OwnServices) -> None:
        self._networks = settings.networks
        self._ports = settings.port_ranges
        self._own = own

    def check(self, ip: str, port: int) -> None:
        """Raise ForbiddenAddress unless `ip` is a literal address where a node may be. Never waits."""
        try:
            address = ip_address(ip)
        except ValueError:
            raise ForbiddenAddress from None
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise ForbiddenAddress  # it would differ from the same address without a zone
        inside = any(address in network for network in self._networks) and any(port in each for each in self._ports)
        if not inside or self._refused(address, port):
            raise ForbiddenAddress
        if any(each.is_loopback or self._refused(each, port) for each in _within(address)):
            raise ForbiddenAddress

    def _refused(self, address: Address, port: int) -> bool:
        return _never(address) or self._own.include(address, port)


@lru_cache(maxsize=4096)  # asked at every call to a node
def _never(address: Address) -> bool:
    return any(address in network for network in NEVER)


def _within(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: by translation, or through a tunnel."""
    if not isinstance(address, IPv6Address):
        return
    if address in NAT64 or (address in COMPATIBLE and not address.is_loopback):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo

"""Where nodes may be (INVARIANTS, "Who may call what"): checked at registration and again at every call to a node.

Receivers of webhooks are checked by the same rules (`infra.webhooks.addresses`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from infra.environment.own_address import Network
from infra.nodes.own_services import Address, OwnServices
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
            "64:ff9b:1::/48",  # NAT64 for local use: the address that it leads to can't be judged
            "fd00:ec2::/32",  # metadata services
            "fd20:ce::/32",
            "fe80::/10",  # link-local
            "ff00::/8",  # multicast
        ),
    )
)
"""Networks that are refused even if the operator allows them."""

SPECIAL = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",  # private
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",  # shared: behind a carrier's NAT, and inside many clouds
            "127.0.0.0/8",  # loopback
            "192.0.0.0/24",  # IETF protocols
            "192.0.2.0/24",  # documentation
            "198.51.100.0/24",
            "203.0.113.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "198.18.0.0/15",  # benchmarks
            "240.0.0.0/4",  # reserved
            "::1/128",  # loopback
            "::/96",  # IPv4-compatible
            "100::/32",  # discarded, and dummies
            "2001::/23",  # IETF protocols, Teredo among them
            "2001:db8::/32",  # documentation
            "3fff::/20",
            "2002::/16",  # 6to4
            "5f00::/16",  # segment routing
            "fc00::/7",  # unique local
            "fec0::/10",  # site-local
        ),
    )
)
"""Networks that are not public (IANA's registries of special-purpose addresses).

A node may be there only if the operator lists a network inside such a range. So `0.0.0.0/0` means every public address.
"""

COMPATIBLE, NAT64 = ip_network("::/96"), ip_network("64:ff9b::/96")


class AllowList:
    """Networks and ports, without addresses that are always refused or not listed separately, and without our own
    services."""

    def __init__(self, networks: Sequence[Network], ports: Sequence[range], own: OwnServices) -> None:
        self._networks = networks
        self._ports = ports
        self._own = own

    @classmethod
    def of_nodes(cls, settings: Settings, own: OwnServices) -> AllowList:
        """NODE_NETWORKS and NODE_PORTS."""
        return cls(settings.node_networks, settings.node_ports, own)

    def check(self, ip: str, port: int) -> None:
        """Raise ForbiddenAddress unless `ip` is a literal address that is allowed. Never waits."""
        try:
            address = ip_address(ip)
        except ValueError:
            raise ForbiddenAddress from None
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise ForbiddenAddress  # it would differ from the same address without a zone
        inside = self._lists(address) and any(port in each for each in self._ports)
        if not inside or self._refused(address, port):
            raise ForbiddenAddress
        if any(self._leads_nowhere(each, port) for each in _within(address)):
            raise ForbiddenAddress

    def _lists(self, address: Address) -> bool:
        """Whether a listed network holds the address. For a special address the network must lie inside its range."""
        special = _special(address)
        return any(address in network and (special is None or _is_part(network, special)) for network in self._networks)

    def _leads_nowhere(self, address: IPv4Address, port: int) -> bool:
        """Whether the address behind a translated one is allowed; a public one need not be listed."""
        unlisted = _special(address) is not None and not self._lists(address)
        return address.is_loopback or unlisted or self._refused(address, port)

    def _refused(self, address: Address, port: int) -> bool:
        return _never(address) or self._own.include(address, port)


@lru_cache(maxsize=4096)  # asked at every call to a node
def _never(address: Address) -> bool:
    return any(address in network for network in NEVER)


@lru_cache(maxsize=4096)
def _special(address: Address) -> Network | None:
    return next((network for network in SPECIAL if address in network), None)


def _is_part(network: Network, of: Network) -> bool:
    """Whether a network lies inside another one with which it shares an address."""
    return network.prefixlen >= of.prefixlen


def _within(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses to which an IPv6 address leads, by translation or through a tunnel."""
    if not isinstance(address, IPv6Address):
        return
    if address in NAT64 or (address in COMPATIBLE and not address.is_loopback):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo

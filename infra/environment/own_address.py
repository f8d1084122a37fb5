"""The addresses at which this machine's API can be reached."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def http_url(host: str, port: int) -> str:
    """The URL of a server; an IPv6 address gets its brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Whether listening on this host means listening on every address of the machine."""
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def loopback(host: str) -> str:
    return "::1" if ":" in host else "127.0.0.1"


def towards(networks: Iterable[Network], host: str) -> str | None:
    """Our own address on the route to the first of the networks that has one; loopback counts last.

    Only networks of the same IP version as `host` count: our server on `::` does not accept IPv4.
    """
    version, family = (6, socket.AF_INET6) if ":" in host else (4, socket.AF_INET)
    own_kind = [network for network in networks if network.version == version]
    for network in sorted(own_kind, key=lambda network: network.is_loopback):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((_somebody_in(network), 9))  # of a datagram socket: no packet is sent
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return None


def _somebody_in(network: Network) -> str:
    """An address for finding a route. In a network as large as the Internet the first addresses are unused."""
    if network.prefixlen < 8:
        return "192.0.2.1" if network.version == 4 else "2001:db8::1"
    return str(network[min(1, network.num_addresses - 1)])
